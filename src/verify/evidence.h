// Everything that the judge saw of one candidate, and the decision on it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "verify/comparator.h"
#include "verify/operator_policy.h"
#include "verify/verdict.h"
#include "verify/worker_process.h"

namespace nemoforge::verify {

// An exception of the candidate, as its process reported it.
struct CandidateError {
  std::string stage;
  std::string class_name;
  std::string text;
  std::string cause_class;
  std::string line_text;  // the candidate's line in which it arose
  bool in_kernel = false;
};

// What is wrong with an output before its values are looked at.
enum class OutputDefect { kNone, kCount, kDtype, kShape, kDevice, kLazy, kNotDelivered };

// One call of the candidate.
struct Call {
  std::string kind;  // the distribution of its inputs
  int instance = 0;  // which model object
  bool perturbed = false;
  bool repeats_content = false;  // the inputs of an earlier call
  OutputDefect defect = OutputDefect::kNone;
  std::string defect_detail;
  std::vector<Comparison> comparisons;  // of each output
  bool values_right = false;
  bool inputs_changed = false;
  bool guards_changed = false;
  bool kept_output_changed = false;
  bool output_is_input = false;
  bool output_from_kernel = true;    // every output holds what a kernel wrote in this call
  bool output_from_earlier = false;  // some output holds what a kernel wrote in an earlier call
  bool output_changed_unseen = false;
  int64_t num_launches = 0;
  int64_t num_failed_launches = 0;
  int64_t num_on_side_streams = 0;  // launches on others than the default stream of a GPU
  std::vector<std::string> launch_digests;
  std::string host_data;            // digest of tensors and arguments made from Python's floats
  std::string operator_trace;       // digest of the operators' places, sizes and pieces of memory
  OperatorCounts operators;         // on data of the inputs, outside of kernels
  OperatorCounts kernel_operators;  // inside of kernels
  std::vector<std::string> hidden_operators;
  double precision_floor = 0;  // the error of reduced precision on this trial's inputs; 0: not asked
  double eager_rms = 0;
  double seconds = 0;
};

// A kernel compiled ahead of time.
struct CompiledKernel {
  std::string name;
  std::string error;  // empty: compiled and assembled
  bool foreign_call = false;
  int64_t shared_bytes = 0;
};

// What was seen while a candidate was timed on a GPU.
struct TimingEvidence {
  std::vector<std::vector<std::string>> launches;  // of each timed call: the functions in their order
  std::vector<std::string> operators;              // of a call in the form of a timed one, by the profiler
  bool profiled = false;
  std::vector<Call> checked;    // timed calls whose outputs were compared
  std::vector<Finding> doubts;  // families that the times themselves speak of, with the figures
};

struct Evidence {
  std::string syntax_error;
  std::vector<Finding> findings;  // static facts, refusals, namespace patches, memory and race reports
  std::vector<CandidateError> errors;
  std::optional<ExchangeFailure> worker_failure;
  std::string worker_failure_stage;
  ExitStatus exit;
  std::string standard_output;
  std::string standard_error;
  std::vector<Call> calls;
  bool ran_out_of_time = false;  // trials of the plan were left out
  OperatorCounts reference_operators;
  bool reference_is_random = false;
  bool reference_mutates_inputs = false;
  bool reference_returns_input = false;
  std::string
      missing_parameter;  // a parameter that matters, starts constant, and the candidate has no room for
  bool seed_only_weights = false;
  std::vector<CompiledKernel> kernels;
  bool on_gpu = false;                 // kernels were compiled and ran on a GPU, rather than interpreted
  bool right_without_kernels = false;  // a call whose launches were left out gave the right answer
  std::optional<TimingEvidence> timing;
};

// The verdict, by the first rule that applies; every finding is kept in it.
[[nodiscard]] Judgement decide(const Evidence& evidence);

}  // namespace nemoforge::verify
