#include "grammar/expression.h"

#include <algorithm>

namespace nemoforge::grammar {

Expr literal(std::string_view bytes) {
  Expression out;
  out.kind = Expression::Kind::kLiteral;
  out.bytes = bytes;
  return std::make_shared<const Expression>(std::move(out));
}

Expr one_of(CodePointSet set) {
  Expression out;
  out.kind = Expression::Kind::kSet;
  out.set = std::move(set);
  return std::make_shared<const Expression>(std::move(out));
}

Expr sequence(std::vector<Expr> parts) {
  Expression out;
  out.parts = std::move(parts);
  return std::make_shared<const Expression>(std::move(out));
}

Expr choice(std::vector<Expr> parts) {
  Expression out;
  out.kind = Expression::Kind::kChoice;
  out.parts = std::move(parts);
  return std::make_shared<const Expression>(std::move(out));
}

Expr repeat(Expr part, int32_t min, int32_t max) {
  Expression out;
  out.kind = Expression::Kind::kRepeat;
  out.parts = {std::move(part)};
  out.min = min;
  out.max = max;
  return std::make_shared<const Expression>(std::move(out));
}

Expr rule_of(int32_t rule) {
  Expression out;
  out.kind = Expression::Kind::kRule;
  out.rule = rule;
  return std::make_shared<const Expression>(std::move(out));
}

CodePointSet complement(CodePointSet set) {
  std::sort(set.begin(), set.end());
  CodePointSet out;
  char32_t next = 0;
  for (const auto& [first, last] : set) {
    if (first > next) out.emplace_back(next, first - 1);
    next = std::max(next, static_cast<char32_t>(last + 1));
  }
  if (next <= kMaxCodePoint) out.emplace_back(next, kMaxCodePoint);
  return out;
}

}  // namespace nemoforge::grammar
