#include <charconv>
#include <map>
#include <string>
#include <utility>

#include "grammar/grammar.h"
#include "grammar/regex.h"

namespace nemoforge::grammar {
namespace {

constexpr int kMaxGroupDepth = 64;

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class EbnfParser {
 public:
  explicit EbnfParser(std::string_view text) : text_(text) {}

  Result<Grammar> parse() {
    for (skip_space(true); pos_ < text_.size(); skip_space(true)) {
      const std::string name = take_name();
      if (name.empty()) return invalid("expected a rule's name");
      skip_space(false);
      if (!text_.substr(pos_).starts_with("::=")) return invalid("expected ::= after \"" + name + "\"");
      pos_ += 3;
      const int32_t rule = rule_named(name);
      if (defined_[static_cast<size_t>(rule)]) return invalid("the rule \"" + name + "\" is defined twice");
      NF_TRY(Expr body, parse_choice(0));
      if (pos_ < text_.size() && text_[pos_] != '\n') return invalid("unexpected text");
      builder_.define(rule, std::move(body));
      defined_[static_cast<size_t>(rule)] = true;
    }
    for (const auto& [name, rule] : rules_) {
      if (!defined_[static_cast<size_t>(rule)]) {
        return error(ErrorCode::kInvalidArgument, "grammar: the rule \"" + name + "\" is not defined");
      }
    }
    const auto root = rules_.find("root");
    if (root == rules_.end()) return error(ErrorCode::kInvalidArgument, "grammar: there is no rule \"root\"");
    return builder_.build(root->second);
  }

 private:
  [[nodiscard]] tl::unexpected<Error> invalid(const std::string& what) const {
    return error(ErrorCode::kInvalidArgument, "grammar: " + what + " at byte " + std::to_string(pos_));
  }

  // Comments too. A line feed ends a rule outside of groups, unless a | follows.
  void skip_space(bool over_lines) {
    while (pos_ < text_.size()) {
      const char c = text_[pos_];
      if (c == '#') {
        pos_ = std::min(text_.find('\n', pos_), text_.size());
      } else if (c == ' ' || c == '\t' || c == '\r' || (over_lines && c == '\n')) {
        ++pos_;
      } else {
        return;
      }
    }
  }

  std::string take_name() {
    const size_t begin = pos_;
    while (pos_ < text_.size() && is_name_character(text_[pos_])) ++pos_;
    return std::string(text_.substr(begin, pos_ - begin));
  }

  int32_t rule_named(const std::string& name) {
    const auto found = rules_.find(name);
    if (found != rules_.end()) return found->second;
    const int32_t rule = builder_.add_rule();
    rules_[name] = rule;
    defined_.push_back(false);
    return rule;
  }

  Result<Expr> parse_choice(int depth) {
    if (depth > kMaxGroupDepth) return invalid("groups nest too deep");
    std::vector<Expr> branches;
    for (;;) {
      skip_space(true);
      NF_TRY(Expr branch, parse_sequence(depth));
      branches.push_back(std::move(branch));
      const size_t before = pos_;
      skip_space(true);
      if (pos_ >= text_.size() || text_[pos_] != '|') {
        if (depth == 0) pos_ = before;
        return branches.size() == 1 ? std::move(branches[0]) : choice(std::move(branches));
      }
      ++pos_;
    }
  }

  Result<Expr> parse_sequence(int depth) {
    std::vector<Expr> parts;
    for (;;) {
      skip_space(depth > 0);
      if (pos_ >= text_.size()) break;
      const char c = text_[pos_];
      if (c == '|' || c == ')' || c == '\n') break;
      NF_TRY(Expr atom, parse_atom(depth));
      NF_TRY(atom, parse_repeat(std::move(atom)));
      parts.push_back(std::move(atom));
    }
    return sequence(std::move(parts));
  }

  Result<Expr> parse_atom(int depth) {
    const char c = text_[pos_];
    if (c == '(') {
      ++pos_;
      NF_TRY(Expr group, parse_choice(depth + 1));
      if (pos_ >= text_.size() || text_[pos_] != ')') return invalid("expected )");
      ++pos_;
      return group;
    }
    if (c == '"') return parse_quoted();
    if (c == '[') return parse_class();
    if (c == '.') {
      ++pos_;
      return one_of({{0, kMaxCodePoint}});
    }
    const std::string name = take_name();
    if (name.empty()) return invalid("expected a string, a class, a group or a rule's name");
    return rule_of(rule_named(name));
  }

  Result<Expr> parse_quoted() {
    ++pos_;
    std::string bytes;
    while (pos_ < text_.size() && text_[pos_] != '"') {
      char c = text_[pos_++];
      if (c == '\n') return invalid("a string goes over the end of its line");
      if (c == '\\') {
        constexpr std::string_view kNames = "nrt\"\\";
        constexpr std::string_view kValues = "\n\r\t\"\\";
        const size_t name = pos_ < text_.size() ? kNames.find(text_[pos_]) : std::string_view::npos;
        if (name == std::string_view::npos) return invalid("expected \\n, \\r, \\t, \\\" or \\\\");
        c = kValues[name];
        ++pos_;
      }
      bytes += c;
    }
    if (pos_ >= text_.size()) return invalid("a string does not end");
    ++pos_;
    return literal(bytes);
  }

  // As in regular expressions.
  Result<Expr> parse_class() {
    size_t end = pos_ + 1;
    while (end < text_.size() && text_[end] != ']' && text_[end] != '\n') end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size() || text_[end] != ']') return invalid("a class does not end");
    auto set = parse_regex(text_.substr(pos_, end + 1 - pos_), RegexTarget::kText);
    if (!set) return invalid(set.error().message);
    pos_ = end + 1;
    return *std::move(set);
  }

  Result<Expr> parse_repeat(Expr atom) {
    if (pos_ >= text_.size()) return atom;
    switch (text_[pos_]) {
      case '*':
        ++pos_;
        return repeat(std::move(atom), 0, -1);
      case '+':
        ++pos_;
        return repeat(std::move(atom), 1, -1);
      case '?':
        ++pos_;
        return repeat(std::move(atom), 0, 1);
      case '{':
        break;
      default:
        return atom;
    }
    ++pos_;
    int32_t min = 0;
    if (!take_count(min)) return invalid("expected a number up to " + std::to_string(kMaxRepeat));
    int32_t max = min;
    if (pos_ < text_.size() && text_[pos_] == ',') {
      ++pos_;
      max = -1;
      if (pos_ < text_.size() && text_[pos_] != '}' && (!take_count(max) || max < min)) {
        return invalid("expected a number from " + std::to_string(min) + " to " + std::to_string(kMaxRepeat));
      }
    }
    if (pos_ >= text_.size() || text_[pos_] != '}') return invalid("expected }");
    ++pos_;
    return repeat(std::move(atom), min, max);
  }

  bool take_count(int32_t& out) {
    const char* begin = text_.data() + pos_;
    const auto [end, failure] = std::from_chars(begin, text_.data() + text_.size(), out);
    pos_ += static_cast<size_t>(end - begin);
    return failure == std::errc() && out >= 0 && out <= kMaxRepeat;
  }

  std::string_view text_;
  size_t pos_ = 0;
  GrammarBuilder builder_;
  std::map<std::string, int32_t> rules_;
  std::vector<bool> defined_;
};

}  // namespace

Result<Grammar> from_ebnf(std::string_view text) {
  if (text.size() > kMaxSourceBytes)
    return error(ErrorCode::kInvalidArgument, "grammar: the text is too long");
  return EbnfParser(text).parse();
}

}  // namespace nemoforge::grammar
