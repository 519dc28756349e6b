// Whether this machine can verify a problem at all, told from shapes before anything is computed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"

namespace nemoforge::verify {

// The tensors that a candidate's process shares with the judge lie in one piece of memory, of at most this.
inline constexpr int64_t kMaxArenaBytes = int64_t{1} << 30;
// What one answer of the reference may carry.
inline constexpr int64_t kMaxAnswerBytes = int64_t{1} << 30;

// What one forward pass of a problem's reference takes.
struct ProblemNeeds {
  int64_t num_states = 0;      // parameters and buffers, as tensors
  int64_t num_parameters = 0;  // as numbers
  int64_t state_bytes = 0;     // of parameters and buffers
  int64_t state_elements = 0;
  int64_t input_bytes = 0;
  int64_t input_elements = 0;
  int64_t output_bytes = 0;
  int64_t output_elements = 0;
  int64_t intermediate_bytes = 0;  // results of its operators that live at one time, outputs included
  int64_t flops = 0;               // of products, convolutions and attention
  int64_t elements = 0;            // read and written by its operators
  std::vector<std::string> dtypes;
  std::string measured_on;  // "meta", or "cpu" where code looks at values
};

enum class SizeClass { kOk, kTooLargeForCpu, kTooLargeForMemory, kDoesNotBuild };

// "ok", "too_large_for_cpu", "too_large_for_memory", "does_not_build".
[[nodiscard]] std::string_view name_of(SizeClass size_class);

// The needs of a problem, or why there are none.
struct ProblemMeasurement {
  std::optional<ProblemNeeds> full;    // at the sizes of the file; none where only values could tell
  std::optional<ProblemNeeds> judged;  // at the sizes at which candidates are judged; none: it failed
  std::string overrides_json = "{}";   // the module constants that make those sizes
  SizeClass failure = SizeClass::kOk;  // where judged is none
  std::string failure_reason;          // one line
};

// Reads the answer of the reference to `measure`; what it lacks is zero.
[[nodiscard]] ProblemMeasurement read_measurement(const io::Json& answer);
[[nodiscard]] io::Json to_json(const ProblemNeeds& needs);

struct SizeLimits {
  int64_t memory_bytes = 0;  // of all processes that verify one candidate
  double timeout_s = 240;    // of a candidate's trials, and of the reference's work before them

  // An equal share of the machine's memory (or of the control group's) for each of num_workers.
  [[nodiscard]] static SizeLimits of_this_machine(int num_workers);
};

struct SizeJudgement {
  SizeClass size_class = SizeClass::kOk;
  std::string reason;        // one sentence; empty where it is ok
  int64_t memory_bytes = 0;  // that verifying takes, about
  double candidate_s = 0;    // that the trials take at the least, under Triton's interpreter
  double reference_s = 0;    // that the reference works before the first trial, at the least
  [[nodiscard]] bool too_large() const {
    return size_class == SizeClass::kTooLargeForCpu || size_class == SizeClass::kTooLargeForMemory;
  }
};

// The rule (docs/verification.md says where its rates come from). What it refuses would end as a timeout or
// for want of memory with any usual candidate; what it lets through may still be too slow.
//   memory     1 GiB + 9 state_bytes + 9 input_bytes + 96 output_elements + 2 intermediate_bytes
//   candidate  14 calls of (input, state and output elements) / 4e6 + flops / 125e6 seconds
//   reference  (60 + num_states) passes of elements / 1e9 + flops / 50e9 seconds
[[nodiscard]] SizeJudgement judge_size(const ProblemMeasurement& measurement, const SizeLimits& limits);

}  // namespace nemoforge::verify
