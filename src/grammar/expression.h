// What a grammar's rules are written with, whatever language they came from.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nemoforge::grammar {

// Inclusive ranges of code points, in any order.
using CodePointSet = std::vector<std::pair<char32_t, char32_t>>;

struct Expression;
using Expr = std::shared_ptr<const Expression>;

struct Expression {
  enum class Kind { kLiteral, kSet, kSequence, kChoice, kRepeat, kRule };
  Kind kind = Kind::kSequence;
  std::string bytes;        // kLiteral
  CodePointSet set;         // kSet: one code point of it, as UTF-8
  std::vector<Expr> parts;  // kSequence, kChoice; kRepeat has one
  int32_t min = 0;          // kRepeat
  int32_t max = -1;         // kRepeat; -1: no end
  int32_t rule = -1;        // kRule
};

[[nodiscard]] Expr literal(std::string_view bytes);
[[nodiscard]] Expr one_of(CodePointSet set);
[[nodiscard]] Expr sequence(std::vector<Expr> parts);
[[nodiscard]] Expr choice(std::vector<Expr> parts);
[[nodiscard]] Expr repeat(Expr part, int32_t min, int32_t max);
[[nodiscard]] Expr rule_of(int32_t rule);

inline constexpr char32_t kMaxCodePoint = 0x10FFFF;
// The code points that `set` lacks.
[[nodiscard]] CodePointSet complement(CodePointSet set);

}  // namespace nemoforge::grammar
