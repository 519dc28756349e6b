// A grammar as one graph of bytes: what all constraints on an output compile to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "grammar/expression.h"
#include "io/json.h"

namespace nemoforge::grammar {

// The text of a grammar and the size of its graph.
inline constexpr size_t kMaxSourceBytes = 256 * 1024;
inline constexpr size_t kMaxNodes = 400'000;
inline constexpr int32_t kMaxRepeat = 10'000;

struct Node {
  enum class Kind : uint8_t {
    kBytes,   // a byte in [first, last], then next
    kSplit,   // next or other
    kCall,    // the rule that begins at other, then next
    kReturn,  // the end of a rule
    kFail,    // nothing
  };
  Kind kind = Kind::kReturn;
  uint8_t first = 0;
  uint8_t last = 0;
  int32_t next = -1;
  int32_t other = -1;
};

class Grammar {
 public:
  [[nodiscard]] const Node& node(int32_t node_idx) const { return nodes_[static_cast<size_t>(node_idx)]; }
  [[nodiscard]] int32_t start() const { return start_; }
  [[nodiscard]] size_t num_nodes() const { return nodes_.size(); }

 private:
  friend class GrammarBuilder;
  friend Grammar either_of(const Grammar& a, const Grammar& b);
  std::vector<Node> nodes_;
  int32_t start_ = 0;
};

// What follows either grammar.
[[nodiscard]] Grammar either_of(const Grammar& a, const Grammar& b);

class GrammarBuilder {
 public:
  // A rule to be defined; rules may refer to each other in any order.
  [[nodiscard]] int32_t add_rule();
  void define(int32_t rule, Expr expression);
  // kInvalidArgument where the graph is too large. Every rule is defined.
  [[nodiscard]] Result<Grammar> build(int32_t root) const;

 private:
  std::vector<Expr> rules_;
};

// Each of these gives kInvalidArgument for text that is none of its language or too large, and kUnsupported,
// with the name of the construct, for what cannot be enforced.

// One of the strings, which are not empty.
[[nodiscard]] Result<Grammar> from_choice(const std::vector<std::string>& strings);
// A regular expression that the whole output matches: literals, ., classes, \d \w \s and their complements
// (of ASCII), groups, |, * + ? {m,n}; ^ and $ at the ends only. No look-around, no back references, no flags.
[[nodiscard]] Result<Grammar> from_regex(std::string_view pattern);
// GBNF: `root ::= ...` and further rules of "strings", [classes], (groups), |, * + ? {m,n}, # comments.
[[nodiscard]] Result<Grammar> from_ebnf(std::string_view text);
// Any JSON object. Between the parts of the JSON one space, or one line feed and an indentation, may stand,
// unless it `is_compact`.
[[nodiscard]] Result<Grammar> from_json_object(bool is_compact = false);
// JSON that is valid under `schema`, and of that JSON possibly less: an object's properties come in the
// schema's order, and where it has `properties` no others are written, whatever additionalProperties allows;
// numbers within limits have no exponents, and integers at most 18 digits. oneOf is taken as anyOf; of a
// union's members those that cannot be enforced are left out where another one but null remains. White space
// as above.
[[nodiscard]] Result<Grammar> from_json_schema(const io::Json& schema, bool is_compact = false);
// Calls in the model's XML form of functions of the API's `tools`: of the one called `name` only, unless that
// is empty; one call, or several where `several`. Parameters come in the order of the function's schema.
// Values are valid under their schemas: strings without quotes, of any text that no tag ends, others as JSON.
// A keyword that cannot be enforced gives kUnsupported where the function is `strict`, and is left out where
// it is not.
[[nodiscard]] Result<Grammar> from_tool_calls(const io::Json& tools, std::string_view name, bool several);

}  // namespace nemoforge::grammar
