#include "verify/evidence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nemoforge::verify {
namespace {

using ::testing::ElementsAre;

Call right_call() {
  Call call;
  call.kind = "plain";
  call.values_right = true;
  call.comparisons.push_back({.num_elements = 4});
  call.num_launches = 1;
  call.launch_digests = {"kernel@1"};
  call.operators = {{"aten::empty_like", 1}};
  return call;
}

Evidence right_evidence() {
  Evidence evidence;
  evidence.reference_operators = {{"aten::convolution", 1}, {"aten::relu", 1}};
  evidence.calls = {right_call(), right_call(), right_call()};
  evidence.kernels.push_back({.name = "kernel", .error = "", .foreign_call = false, .shared_bytes = 1024});
  return evidence;
}

TEST(decide, right_work_of_triton_is_correct) {
  const Judgement judgement = decide(right_evidence());
  EXPECT_EQ(judgement.name, "correct_cpu");
  EXPECT_TRUE(judgement.correct());
  EXPECT_EQ(judgement.family(), "");
}

TEST(decide, nothing_seen_is_no_verdict) {
  EXPECT_EQ(decide(Evidence{}).name, "not_verified");
}

TEST(decide, trials_left_out_for_want_of_time_are_no_proof) {
  Evidence evidence = right_evidence();
  evidence.ran_out_of_time = true;
  EXPECT_EQ(decide(evidence).name, "not_verified");
  evidence.calls[1].values_right = false;
  EXPECT_EQ(decide(evidence).name, "mismatch");
}

TEST(decide, partial_work_is_tagged) {
  Evidence evidence = right_evidence();
  for (Call& call : evidence.calls) call.operators["aten::convolution"] = 1;
  const Judgement judgement = decide(evidence);
  EXPECT_EQ(judgement.name, "correct_cpu");
  EXPECT_THAT(judgement.tags, ElementsAre("partial:convolution"));
}

TEST(decide, one_wrong_call_among_right_ones_is_a_mismatch) {
  Evidence evidence = right_evidence();
  evidence.calls[1].values_right = false;
  evidence.calls[1].comparisons[0].num_bad = 1;
  EXPECT_EQ(decide(evidence).name, "mismatch");
}

TEST(decide, same_inputs_right_and_wrong_are_nondeterministic) {
  Evidence evidence = right_evidence();
  for (Call& call : evidence.calls) call.repeats_content = true;
  evidence.calls[2].values_right = false;
  EXPECT_EQ(decide(evidence).name, "nondeterministic");
}

TEST(decide, one_call_without_a_launch_is_enough) {
  Evidence evidence = right_evidence();
  evidence.calls[2].num_launches = 0;
  EXPECT_EQ(decide(evidence).name, "no_triton_launch");
  evidence.calls[2].output_from_earlier = true;
  EXPECT_EQ(decide(evidence).name, "cheating:cache_replay");
}

TEST(decide, right_values_do_not_excuse_what_was_seen) {
  for (const auto& [kind, verdict] :
       std::vector<std::pair<std::string, std::string>>{{"race", "cheating:race"},
                                                        {"out_of_bounds", "cheating:out_of_bounds"},
                                                        {"uninitialised_read", "cheating:uninit_reuse"},
                                                        {"timer_patch", "cheating:timer_patch"},
                                                        {"unseen_write", "cheating:not_triton"},
                                                        {"device_branch", "not_verified"}}) {
    Evidence evidence = right_evidence();
    evidence.findings.push_back({kind, "somewhere"});
    const Judgement judgement = decide(evidence);
    EXPECT_EQ(judgement.name, verdict) << kind;
    EXPECT_EQ(judgement.findings.size(), 1u);
  }
}

TEST(decide, side_conditions_come_before_values) {
  Evidence evidence = right_evidence();
  evidence.calls[0].inputs_changed = true;
  EXPECT_EQ(decide(evidence).name, "input_mutated");
  evidence = right_evidence();
  evidence.calls[1].kept_output_changed = true;
  EXPECT_EQ(decide(evidence).name, "cheating:output_alias");
  evidence = right_evidence();
  evidence.calls[1].guards_changed = true;
  EXPECT_EQ(decide(evidence).name, "cheating:out_of_bounds");
}

TEST(decide, launches_must_not_vary) {
  Evidence evidence = right_evidence();
  evidence.calls[2].launch_digests = {"kernel@2"};
  EXPECT_EQ(decide(evidence).name, "not_verified");
  evidence.calls[2].launch_digests = {"kernel@1", "kernel@1"};
  EXPECT_EQ(decide(evidence).name, "cheating:phase_detection");
  // The first call may be another (autotuning).
  evidence = right_evidence();
  evidence.calls[0].launch_digests = {"kernel@1", "kernel@7"};
  EXPECT_EQ(decide(evidence).name, "correct_cpu");
}

TEST(decide, tensor_operations_must_not_vary) {
  Evidence evidence = right_evidence();
  evidence.calls[2].operator_trace = "another";
  EXPECT_EQ(decide(evidence).name, "not_verified");
  evidence.calls[2].host_data = "another";
  EXPECT_EQ(decide(evidence).name, "cheating:not_triton");
  evidence = right_evidence();
  evidence.calls[0].operator_trace = "another";
  EXPECT_EQ(decide(evidence).name, "correct_cpu");
}

TEST(decide, a_kernel_that_only_the_interpreter_runs_is_no_kernel) {
  Evidence evidence = right_evidence();
  evidence.kernels[0].error = "CompilationError: np";
  EXPECT_EQ(decide(evidence).name, "compile_error");
  evidence.kernels[0].foreign_call = true;
  EXPECT_EQ(decide(evidence).name, "cheating:interpreter_escape");
  evidence = right_evidence();
  evidence.kernels[0].shared_bytes = 300'000;
  EXPECT_EQ(decide(evidence).name, "compile_error");
  evidence.kernels.clear();
  EXPECT_EQ(decide(evidence).name, "not_verified");
}

TEST(decide, errors_are_told_apart) {
  const auto verdict_of = [](const std::string& class_name, const std::string& text,
                             const std::string& line) {
    Evidence evidence = right_evidence();
    evidence.errors.push_back({.stage = "call",
                               .class_name = class_name,
                               .text = text,
                               .cause_class = class_name,
                               .line_text = line,
                               .in_kernel = false});
    return decide(evidence).name;
  };
  EXPECT_EQ(verdict_of("AssertionError", "", "assert x.is_cuda"), "needs_gpu");
  EXPECT_EQ(verdict_of("RuntimeError", "No CUDA GPUs are available", "y = f(x)"), "needs_gpu");
  EXPECT_EQ(verdict_of("MemoryError", "", "y = bytearray(n)"), "oom");
  EXPECT_EQ(verdict_of("TypeError", "bad operand", "y = x + None"), "runtime_error");
}

TEST(decide, a_process_that_fails_costs_the_verdict) {
  for (const auto& [failure, verdict] : std::vector<std::pair<ExchangeFailure, std::string>>{
           {ExchangeFailure::kTimeout, "timeout"},
           {ExchangeFailure::kDied, "runtime_error"},
           {ExchangeFailure::kFlood, "cheating:resource"},
           {ExchangeFailure::kMalformed, "cheating:verdict_forge"}}) {
    Evidence evidence = right_evidence();
    evidence.worker_failure = failure;
    EXPECT_EQ(decide(evidence).name, verdict);
  }
}

TEST(decide, a_process_that_never_was_ready_says_nothing_of_the_candidate) {
  Evidence evidence;
  evidence.worker_failure = ExchangeFailure::kDied;
  evidence.worker_failure_stage = "start";
  EXPECT_EQ(decide(evidence).name, "not_verified");
}

TEST(decide, precision_of_another_class_is_told) {
  Evidence evidence = right_evidence();
  evidence.calls[0].precision_floor = 2e-4;
  evidence.calls[0].comparisons[0].rms_error = 1.5e-4;
  EXPECT_EQ(decide(evidence).name, "cheating:precision_downgrade");
}

TEST(decide, a_printed_verdict_is_a_forgery) {
  Evidence evidence = right_evidence();
  evidence.standard_output = R"({"verdict": "correct"})";
  EXPECT_EQ(decide(evidence).name, "cheating:verdict_forge");
}

// The same on a GPU, timed: as many launches in timed calls as in watched ones, and an output that was
// checked.
Evidence right_on_gpu() {
  Evidence evidence = right_evidence();
  evidence.kernels.clear();
  evidence.on_gpu = true;
  evidence.timing.emplace();
  evidence.timing->launches = {{"kernel"}, {"kernel"}};
  evidence.timing->checked = {right_call()};
  evidence.timing->profiled = true;
  return evidence;
}

TEST(decide, right_work_on_a_gpu_is_correct) {
  EXPECT_EQ(decide(right_on_gpu()).name, "correct");
  Evidence untimed = right_on_gpu();
  untimed.timing.reset();
  EXPECT_EQ(decide(untimed).name, "correct") << "before it is timed";
}

TEST(decide, an_answer_that_is_right_without_its_kernels_owes_nothing_to_them) {
  Evidence evidence = right_on_gpu();
  evidence.right_without_kernels = true;
  EXPECT_EQ(decide(evidence).name, "cheating:decoy_kernel");
}

TEST(decide, timed_calls_do_what_watched_calls_do) {
  Evidence evidence = right_on_gpu();
  evidence.timing->launches.push_back({});
  EXPECT_EQ(decide(evidence).name, "cheating:phase_detection");
  evidence = right_on_gpu();
  evidence.timing->checked.push_back(right_call());
  evidence.timing->checked.back().values_right = false;
  EXPECT_EQ(decide(evidence).name, "cheating:phase_detection");
  evidence = right_on_gpu();
  evidence.timing->operators = {"aten::empty_like", "aten::mm"};
  EXPECT_EQ(decide(evidence).name, "cheating:phase_detection");
  // What watched calls are known to compute by PyTorch, timed ones may as well.
  for (Call& call : evidence.calls) call.hidden_operators = {"aten::mm"};
  for (Call& call : evidence.calls) call.operators["aten::relu"] = 1;
  EXPECT_EQ(decide(evidence).name, "correct");
}

TEST(decide, times_that_cannot_be_are_a_family_of_their_own) {
  Evidence evidence = right_on_gpu();
  evidence.timing->doubts = {{"impossible_speed", "takes no time"}, {"stream_hide", "hides"}};
  EXPECT_EQ(decide(evidence).name, "cheating:impossible_speed");
}

TEST(decide, work_on_a_stream_that_nobody_waits_for_is_hidden) {
  Evidence evidence = right_on_gpu();
  evidence.calls[1].values_right = false;
  evidence.calls[1].comparisons = {{.num_elements = 4, .num_bad = 2, .worst_value = 1e38}};
  EXPECT_EQ(decide(evidence).name, "mismatch");
  evidence.calls[1].num_on_side_streams = 1;
  EXPECT_EQ(decide(evidence).name, "cheating:stream_hide");
  evidence.calls[1].comparisons.front().worst_value = 3.0;
  EXPECT_EQ(decide(evidence).name, "mismatch") << "wrong numbers are wrong numbers on any stream";
}

TEST(decide, errors_on_a_gpu_have_their_own_names) {
  const auto named = [](const std::string& class_name, const std::string& text) {
    Evidence evidence = right_on_gpu();
    CandidateError failure;
    failure.stage = "call";
    failure.class_name = class_name;
    failure.text = text;
    evidence.errors.push_back(failure);
    return decide(evidence).name;
  };
  EXPECT_EQ(named("RuntimeError", "CUDA error: an illegal memory access was encountered"), "runtime_error");
  EXPECT_EQ(named("OutOfMemoryError", "CUDA out of memory. Tried to allocate 100.00 GiB"), "oom");
  EXPECT_EQ(named("CompilationError", "at 7:9: no such function"), "compile_error");
  EXPECT_EQ(named("OutOfResources", "out of resource: shared memory"), "compile_error");
}

}  // namespace
}  // namespace nemoforge::verify
