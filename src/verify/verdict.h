// What a verification says, and on what grounds.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"

namespace nemoforge::verify {

// Something that was seen, whether or not it decided the verdict.
struct Finding {
  std::string kind;
  std::string detail;
};

// One verdict. `name` is one of: no_code import_blocked compile_error runtime_error timeout oom wrong_count
// wrong_shape wrong_dtype wrong_device mismatch input_mutated nondeterministic no_triton_launch
// cheating:<family> correct correct_cpu problem_degenerate needs_gpu not_verified.
struct Judgement {
  std::string name = "not_verified";
  std::string stage;   // load, construct, call, compare, work, compile, ...
  std::string detail;  // one sentence
  std::vector<std::string> tags;
  std::vector<Finding> findings;

  // "decoy_kernel" of "cheating:decoy_kernel", else empty.
  [[nodiscard]] std::string family() const {
    constexpr std::string_view kPrefix = "cheating:";
    return name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : std::string();
  }
  [[nodiscard]] bool correct() const { return name == "correct" || name == "correct_cpu"; }
};

}  // namespace nemoforge::verify
