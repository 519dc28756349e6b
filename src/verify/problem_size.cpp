#include "verify/problem_size.h"

#include <algorithm>
#include <fstream>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "verify/worker_message.h"

namespace nemoforge::verify {
namespace {

using io::Json;

// Bytes that the judge and its two workers hold at their fullest. An instance of the model is with the
// reference twice, once more in float64 (of double size) and twice in the message that carries its state, and
// with the judge and the candidate; an input likewise; an output element in float64 twice, in three
// copies on either side of the channel.
constexpr int64_t kIdleBytes = int64_t{1} << 30;
constexpr int64_t kStateCopies = 9;
constexpr int64_t kInputCopies = 9;
constexpr int64_t kBytesPerOutputElement = 96;
constexpr int64_t kIntermediateCopies = 2;  // in float64

// Every distribution of inputs once, a moved instance, a repeat: the plan's least.
constexpr double kLeastCalls = 14;
// Of an interpreted kernel with blocks of 1024 elements, or of products of 64 x 32 and 32 x 64.
constexpr double kInterpretedElementsPerS = 4e6;
constexpr double kInterpretedFlopsPerS = 125e6;
// Twelve distributions, five passes each; every parameter is moved once to see whether it matters.
constexpr double kReferencePasses = 60;
// Of one core, in float32 and float64 by turns.
constexpr double kReferenceElementsPerS = 1e9;
constexpr double kReferenceFlopsPerS = 50e9;

double gib(int64_t bytes) {
  return static_cast<double>(bytes) / (int64_t{1} << 30);
}

ProblemNeeds read_needs(const Json& answer) {
  ProblemNeeds needs;
  const auto count = [&](const char* key) { return std::max<int64_t>(0, get<int64_t>(answer, key, 0)); };
  needs.num_states = count("states");
  needs.num_parameters = count("parameters");
  needs.state_bytes = count("state_bytes");
  needs.state_elements = count("state_elements");
  needs.input_bytes = count("input_bytes");
  needs.input_elements = count("input_elements");
  needs.output_bytes = count("output_bytes");
  needs.output_elements = count("output_elements");
  needs.intermediate_bytes = count("intermediate_bytes");
  needs.flops = count("flops");
  needs.elements = count("elements");
  for (const Json& dtype : array_of(answer, "dtypes")) {
    if (dtype.is_string()) needs.dtypes.push_back(dtype.get<std::string>());
  }
  needs.measured_on = get<std::string>(answer, "measured_on", "");
  return needs;
}

std::optional<std::string> memory_complaint(const ProblemNeeds& needs, const SizeJudgement& size,
                                            const SizeLimits& limits) {
  const auto too_much = [](const char* what, int64_t bytes, int64_t limit) {
    return fmt::format("{} take {:.1f} GiB, more than {:.1f} GiB", what, gib(bytes), gib(limit));
  };
  const int64_t arena = 2 * needs.input_bytes + needs.output_bytes;
  if (arena > kMaxArenaBytes) return too_much("two sets of inputs and the outputs", arena, kMaxArenaBytes);
  if (needs.state_bytes > kMaxAnswerBytes)
    return too_much("its parameters and buffers", needs.state_bytes, kMaxAnswerBytes);
  const int64_t answer = needs.input_bytes + 16 * needs.output_elements;
  if (answer > kMaxAnswerBytes) {
    return too_much("the inputs and the right outputs in float64", answer, kMaxAnswerBytes);
  }
  if (size.memory_bytes > limits.memory_bytes) {
    return too_much("inputs, parameters, outputs and intermediate results, in all copies,", size.memory_bytes,
                    limits.memory_bytes);
  }
  return std::nullopt;
}

// The control group's limit in bytes; none where there is none.
std::optional<int64_t> control_group_bytes() {
  std::ifstream file("/sys/fs/cgroup/memory.max");
  int64_t bytes = 0;
  if (file >> bytes && bytes > 0) return bytes;
  return std::nullopt;
}

}  // namespace

std::string_view name_of(SizeClass size_class) {
  switch (size_class) {
    case SizeClass::kOk:
      return "ok";
    case SizeClass::kTooLargeForCpu:
      return "too_large_for_cpu";
    case SizeClass::kTooLargeForMemory:
      return "too_large_for_memory";
    case SizeClass::kDoesNotBuild:
      return "does_not_build";
  }
  return "";
}

ProblemMeasurement read_measurement(const Json& answer) {
  ProblemMeasurement measurement;
  if (answer.contains("full") && answer["full"].is_object()) measurement.full = read_needs(answer["full"]);
  if (answer.contains("judged") && answer["judged"].is_object()) {
    measurement.judged = read_needs(answer["judged"]);
  } else {
    measurement.failure = SizeClass::kDoesNotBuild;
    measurement.failure_reason = "the answer holds no sizes";
  }
  if (answer.contains("overrides")) measurement.overrides_json = io::dump_json(answer["overrides"]);
  return measurement;
}

Json to_json(const ProblemNeeds& needs) {
  return {{"states", needs.num_states},
          {"parameters", needs.num_parameters},
          {"state_bytes", needs.state_bytes},
          {"input_bytes", needs.input_bytes},
          {"input_elements", needs.input_elements},
          {"output_bytes", needs.output_bytes},
          {"output_elements", needs.output_elements},
          {"intermediate_bytes", needs.intermediate_bytes},
          {"flops", needs.flops},
          {"elements", needs.elements},
          {"dtypes", needs.dtypes},
          {"measured_on", needs.measured_on}};
}

SizeLimits SizeLimits::of_this_machine(int num_workers) {
  int64_t bytes = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  if (const auto group = control_group_bytes()) bytes = std::min(bytes, *group);
  SizeLimits limits;
  limits.memory_bytes = bytes / std::max(1, num_workers);
  return limits;
}

SizeJudgement judge_size(const ProblemMeasurement& measurement, const SizeLimits& limits) {
  SizeJudgement size;
  if (!measurement.judged) {
    size.size_class = measurement.failure;
    size.reason = measurement.failure_reason;
    return size;
  }
  const ProblemNeeds& needs = *measurement.judged;
  const auto real = [](int64_t count) { return static_cast<double>(count); };
  size.memory_bytes = kIdleBytes + kStateCopies * needs.state_bytes + kInputCopies * needs.input_bytes +
                      kBytesPerOutputElement * needs.output_elements +
                      kIntermediateCopies * needs.intermediate_bytes;
  const double moved = real(needs.input_elements) + real(needs.state_elements) + real(needs.output_elements);
  size.candidate_s =
      kLeastCalls * (moved / kInterpretedElementsPerS + real(needs.flops) / kInterpretedFlopsPerS);
  size.reference_s =
      (kReferencePasses + real(needs.num_states)) *
      (real(needs.elements) / kReferenceElementsPerS + real(needs.flops) / kReferenceFlopsPerS);
  if (const auto complaint = memory_complaint(needs, size, limits)) {
    size.size_class = SizeClass::kTooLargeForMemory;
    size.reason = *complaint;
  } else if (size.reference_s > limits.timeout_s) {
    size.size_class = SizeClass::kTooLargeForCpu;
    size.reason = fmt::format("the reference alone works {:.0f} s or longer on a CPU, more than {:.0f} s",
                              size.reference_s, limits.timeout_s);
  } else if (size.candidate_s > limits.timeout_s) {
    size.size_class = SizeClass::kTooLargeForCpu;
    size.reason = fmt::format("trials under Triton's interpreter take {:.0f} s or longer, more than {:.0f} s",
                              size.candidate_s, limits.timeout_s);
  }
  return size;
}

}  // namespace nemoforge::verify
