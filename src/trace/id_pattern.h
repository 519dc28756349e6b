// A pattern that names some of a set's problems.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"

namespace nemoforge::trace {

// A POSIX extended regular expression, found anywhere in a problem's id: "conv", "^level1_", "_(ReLU|GELU)$".
class IdPattern {
 public:
  // kInvalidArgument says what is wrong with the expression.
  [[nodiscard]] static Result<IdPattern> compile(const std::string& expression);

  [[nodiscard]] bool matches(const std::string& problem_id) const;

 private:
  struct Compiled;
  explicit IdPattern(std::shared_ptr<const Compiled> compiled) : compiled_(std::move(compiled)) {}
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace nemoforge::trace
