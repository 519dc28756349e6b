#include "grammar/grammar.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace nemoforge::grammar {
namespace {

struct ByteRange {
  uint8_t first;
  uint8_t last;
};

int encode(char32_t value, std::array<uint8_t, 4>& out) {
  const auto byte = [](char32_t bits) { return static_cast<uint8_t>(bits); };
  if (value < 0x80) {
    out[0] = byte(value);
    return 1;
  }
  if (value < 0x800) {
    out = {byte(0xC0 | (value >> 6)), byte(0x80 | (value & 63)), 0, 0};
    return 2;
  }
  if (value < 0x10000) {
    out = {byte(0xE0 | (value >> 12)), byte(0x80 | ((value >> 6) & 63)), byte(0x80 | (value & 63)), 0};
    return 3;
  }
  out = {byte(0xF0 | (value >> 18)), byte(0x80 | ((value >> 12) & 63)), byte(0x80 | ((value >> 6) & 63)),
         byte(0x80 | (value & 63))};
  return 4;
}

// The code points [first, last] as sequences of byte ranges. A range is cut until all its code points have
// the same length and their trailing bytes run over all values.
void split_range(char32_t first, char32_t last, std::vector<std::vector<ByteRange>>& out) {
  constexpr std::array<char32_t, 3> kLastOfLength = {0x7F, 0x7FF, 0xFFFF};
  if (first > last) return;
  for (const char32_t end : kLastOfLength) {
    if (first <= end && end < last) {
      split_range(first, end, out);
      split_range(end + 1, last, out);
      return;
    }
  }
  if (first < 0xE000 && last > 0xD7FF) {  // surrogates have no UTF-8
    if (first < 0xD800) split_range(first, 0xD7FF, out);
    split_range(0xE000, last, out);
    return;
  }
  if (last >= 0x80) {
    for (int shift = 6; shift <= 18; shift += 6) {
      const char32_t mask = (char32_t{1} << shift) - 1;
      if ((first & ~mask) == (last & ~mask)) continue;
      if ((first & mask) != 0) {
        split_range(first, first | mask, out);
        split_range((first | mask) + 1, last, out);
        return;
      }
      if ((last & mask) != mask) {
        split_range(first, (last & ~mask) - 1, out);
        split_range(last & ~mask, last, out);
        return;
      }
    }
  }
  std::array<uint8_t, 4> low{};
  std::array<uint8_t, 4> high{};
  const int size = encode(first, low);
  encode(last, high);
  std::vector<ByteRange> bytes;
  for (size_t i = 0; i < static_cast<size_t>(size); ++i) bytes.push_back({low[i], high[i]});
  out.push_back(std::move(bytes));
}

// Writes the graph from the end: every part is given the node that follows it.
class Emitter {
 public:
  explicit Emitter(std::vector<Node>& nodes) : nodes_(nodes) {}

  [[nodiscard]] bool is_full() const { return nodes_.size() > kMaxNodes; }

  int32_t add(Node node) {
    if (is_full()) return 0;
    nodes_.push_back(node);
    return static_cast<int32_t>(nodes_.size()) - 1;
  }

  int32_t emit(const Expression& expression, int32_t next) {
    if (is_full()) return 0;
    switch (expression.kind) {
      case Expression::Kind::kLiteral:
        for (size_t i = expression.bytes.size(); i-- > 0;) {
          const auto byte = static_cast<uint8_t>(expression.bytes[i]);
          next = add({Node::Kind::kBytes, byte, byte, next, -1});
        }
        return next;
      case Expression::Kind::kSet:
        return emit_set(expression.set, next);
      case Expression::Kind::kSequence:
        for (size_t i = expression.parts.size(); i-- > 0;) next = emit(*expression.parts[i], next);
        return next;
      case Expression::Kind::kChoice: {
        int32_t start = add({Node::Kind::kFail, 0, 0, -1, -1});
        for (size_t i = expression.parts.size(); i-- > 0;) {
          start = add({Node::Kind::kSplit, 0, 0, emit(*expression.parts[i], next), start});
        }
        return start;
      }
      case Expression::Kind::kRepeat:
        return emit_repeat(expression, next);
      case Expression::Kind::kRule:
        return add({Node::Kind::kCall, 0, 0, next, expression.rule});
    }
    return next;
  }

 private:
  int32_t emit_set(const CodePointSet& set, int32_t next) {
    std::vector<std::vector<ByteRange>> sequences;
    for (const auto& [first, last] : set) split_range(first, last, sequences);
    int32_t start = add({Node::Kind::kFail, 0, 0, -1, -1});
    for (const auto& bytes : sequences) {
      int32_t node = next;
      for (size_t i = bytes.size(); i-- > 0;) {
        node = add({Node::Kind::kBytes, bytes[i].first, bytes[i].last, node, -1});
      }
      start = add({Node::Kind::kSplit, 0, 0, node, start});
    }
    return start;
  }

  int32_t emit_repeat(const Expression& expression, int32_t next) {
    const Expression& part = *expression.parts[0];
    int32_t start = next;
    if (expression.max < 0) {
      start = add({Node::Kind::kSplit, 0, 0, -1, next});
      const int32_t body = emit(part, start);
      nodes_[static_cast<size_t>(start)].next = body;
    } else {
      for (int32_t i = expression.min; i < expression.max && !is_full(); ++i) {
        start = add({Node::Kind::kSplit, 0, 0, emit(part, start), next});
      }
    }
    for (int32_t i = 0; i < expression.min && !is_full(); ++i) {
      const int32_t body = emit(part, start);
      // Nothing, however often: repetitions of it nested in each other would take for ever to write out.
      if (body == start) break;
      start = body;
    }
    return start;
  }

  std::vector<Node>& nodes_;
};

}  // namespace

int32_t GrammarBuilder::add_rule() {
  rules_.emplace_back();
  return static_cast<int32_t>(rules_.size()) - 1;
}

void GrammarBuilder::define(int32_t rule, Expr expression) {
  rules_[static_cast<size_t>(rule)] = std::move(expression);
}

Result<Grammar> GrammarBuilder::build(int32_t root) const {
  Grammar grammar;
  Emitter emitter(grammar.nodes_);
  const int32_t end = emitter.add({});
  std::vector<int32_t> starts;
  for (const Expr& rule : rules_) {
    NF_CHECK(rule != nullptr);
    starts.push_back(emitter.emit(*rule, end));
  }
  if (emitter.is_full()) {
    return error(ErrorCode::kInvalidArgument,
                 "the grammar is too large: it needs more than " + std::to_string(kMaxNodes) + " states",
                 "shorten its repetitions");
  }
  for (Node& node : grammar.nodes_) {
    if (node.kind == Node::Kind::kCall) node.other = starts[static_cast<size_t>(node.other)];
  }
  grammar.start_ = starts[static_cast<size_t>(root)];
  return grammar;
}

Grammar either_of(const Grammar& a, const Grammar& b) {
  Grammar both = a;
  const auto offset = static_cast<int32_t>(a.num_nodes());
  for (Node node : b.nodes_) {
    if (node.next >= 0) node.next += offset;
    if (node.other >= 0) node.other += offset;
    both.nodes_.push_back(node);
  }
  both.start_ = static_cast<int32_t>(both.nodes_.size());
  both.nodes_.push_back({Node::Kind::kSplit, 0, 0, a.start(), b.start() + offset});
  return both;
}

Result<Grammar> from_choice(const std::vector<std::string>& strings) {
  if (strings.empty()) return error(ErrorCode::kInvalidArgument, "choice: expected at least one string");
  size_t num_bytes = 0;
  std::vector<Expr> parts;
  for (const std::string& string : strings) {
    if (string.empty()) return error(ErrorCode::kInvalidArgument, "choice: a string is empty");
    num_bytes += string.size();
    parts.push_back(literal(string));
  }
  if (num_bytes > kMaxSourceBytes)
    return error(ErrorCode::kInvalidArgument, "choice: the strings are too long");
  GrammarBuilder builder;
  const int32_t root = builder.add_rule();
  builder.define(root, choice(std::move(parts)));
  return builder.build(root);
}

}  // namespace nemoforge::grammar
