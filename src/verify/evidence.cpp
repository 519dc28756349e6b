#include "verify/evidence.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace nemoforge::verify {
namespace {

// The most shared memory of one block on an H100.
constexpr int64_t kMaxSharedBytes = 227 * 1024;

// How the reference's process writes NaN, which JSON has no number for.
constexpr double kNotANumber = 1e38;

using Decision = std::optional<Judgement>;

Judgement verdict(std::string name, std::string stage, std::string detail) {
  Judgement judgement;
  judgement.name = std::move(name);
  judgement.stage = std::move(stage);
  judgement.detail = std::move(detail);
  return judgement;
}

const Finding* find(const Evidence& evidence, std::string_view kind) {
  const auto found = std::find_if(evidence.findings.begin(), evidence.findings.end(),
                                  [&](const Finding& finding) { return finding.kind == kind; });
  return found == evidence.findings.end() ? nullptr : &*found;
}

bool mentions(std::string_view text, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](std::string_view part) { return text.find(part) != std::string_view::npos; });
}

Decision decide_imports(const Evidence& evidence) {
  const Finding* blocked = find(evidence, "import_blocked");
  if (blocked == nullptr) return std::nullopt;
  const std::string top = blocked->detail.substr(0, blocked->detail.find('.'));
  const std::array<std::string_view, 6> concurrent = {"threading", "_thread", "concurrent",
                                                      "asyncio",   "queue",   "multiprocessing"};
  if (std::find(concurrent.begin(), concurrent.end(), top) != concurrent.end()) {
    return verdict("cheating:thread_defer", "load", "imports " + blocked->detail);
  }
  return verdict("import_blocked", "load", "imports " + blocked->detail);
}

// Findings that name their family themselves, in order of weight.
Decision decide_tampering(const Evidence& evidence) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 21> kFamilies = {{
      {"comparison_tamper", "comparison_tamper"},
      {"timer_patch", "timer_patch"},
      {"aggregator_tamper", "aggregator_tamper"},
      {"input_tamper", "input_tamper"},
      {"verdict_forge", "verdict_forge"},
      {"interpreter_escape", "interpreter_escape"},
      {"reference_tamper", "reference_tamper"},
      {"baseline_sabotage", "baseline_sabotage"},
      {"thread_defer", "thread_defer"},
      {"reference_steal", "reference_steal"},
      {"memory_scan", "memory_scan"},
      {"resource", "resource"},
      {"sandbox_probe", "sandbox_probe"},
      {"compiler_offload", "compiler_offload"},
      {"introspection", "reference_steal"},
      {"env_sensing", "env_sensing"},
      {"call_counter", "time_bomb"},
      {"clock", "time_bomb"},
      {"module_patch", "reference_tamper"},
      {"foreign_memory", "not_triton"},
      {"unseen_write", "not_triton"},
  }};
  for (const auto& [kind, family] : kFamilies) {
    if (const Finding* finding = find(evidence, kind)) {
      return verdict("cheating:" + std::string(family), "observe", finding->detail);
    }
  }
  if (mentions(evidence.standard_output, {"\"verdict\"", "'verdict'", "\"correct\"", "correct_cpu"})) {
    return verdict("cheating:verdict_forge", "observe", "prints a verdict of its own");
  }
  return std::nullopt;
}

bool needs_gpu(const CandidateError& failure) {
  return mentions(failure.text,
                  {"CUDA", "cuda", "NVIDIA driver", "0 active drivers", "nvidia", "is_cuda", "GPU"}) ||
         mentions(failure.line_text, {"is_cuda", ".cuda(", "'cuda'", "\"cuda\"", "torch.cuda."});
}

bool out_of_memory(const CandidateError& failure) {
  return failure.class_name == "MemoryError" || failure.cause_class == "MemoryError" ||
         mentions(failure.text, {"can't allocate memory", "not enough memory", "Unable to allocate",
                                 "Cannot allocate memory", "std::bad_alloc", "CUDA out of memory"}) ||
         failure.class_name == "OutOfMemoryError";
}

bool is_compile_error(const CandidateError& failure) {
  const std::array<std::string_view, 6> names = {"CompilationError",
                                                 "CompileTimeAssertionFailure",
                                                 "UnsupportedLanguageConstruct",
                                                 "PTXASError",
                                                 "OutOfResources",
                                                 "AutotunerError"};
  const auto is_one = [&](const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  return is_one(failure.class_name) || is_one(failure.cause_class);
}

Decision decide_worker_failure(const Evidence& evidence) {
  if (!evidence.worker_failure) return std::nullopt;
  const std::string& stage = evidence.worker_failure_stage;
  // Before it is ready the process has run nothing of the candidate.
  if (stage == "start") return verdict("not_verified", stage, "the process for the candidate did not start");
  switch (*evidence.worker_failure) {
    case ExchangeFailure::kTimeout:
      return verdict("timeout", stage, "no answer within the limit");
    case ExchangeFailure::kFlood:
      return verdict("cheating:resource", stage, "wrote without end to its output");
    case ExchangeFailure::kMalformed:
      return verdict("cheating:verdict_forge", stage, "its process sent what is no message of the worker");
    case ExchangeFailure::kDied:
      break;
  }
  const std::string how =
      (evidence.exit.signalled ? "signal " : "exit code ") + std::to_string(evidence.exit.code);
  if (mentions(evidence.standard_error, {"MemoryError", "bad_alloc", "allocate memory"})) {
    return verdict("oom", stage, "the process died for want of memory (" + how + ")");
  }
  return verdict("runtime_error", stage, "the process died (" + how + ")");
}

Decision decide_errors(const Evidence& evidence) {
  if (const Finding* finding = find(evidence, "out_of_bounds")) {
    return verdict("cheating:out_of_bounds", "call", finding->detail);
  }
  if (evidence.errors.empty()) return std::nullopt;
  const CandidateError& first = evidence.errors.front();
  const std::string text = first.class_name + ": " + first.text.substr(0, 500);
  if (!evidence.on_gpu && needs_gpu(first)) return verdict("needs_gpu", first.stage, text);
  if (out_of_memory(first)) return verdict("oom", first.stage, text);
  if (evidence.on_gpu && is_compile_error(first)) return verdict("compile_error", first.stage, text);
  if (first.in_kernel) {
    for (const CompiledKernel& kernel : evidence.kernels) {
      if (!kernel.error.empty())
        return verdict("compile_error", first.stage, kernel.name + ": " + kernel.error);
    }
  }
  if (first.stage == "load" && first.text.find("no class ModelNew") != std::string::npos) {
    return verdict("compile_error", first.stage, first.text);
  }
  return verdict("runtime_error", first.stage, text);
}

Decision decide_form(const Evidence& evidence) {
  for (const Call& call : evidence.calls) {
    switch (call.defect) {
      case OutputDefect::kNone:
        break;
      case OutputDefect::kCount:
        return verdict("wrong_count", "compare", call.defect_detail);
      case OutputDefect::kDtype:
        return verdict("wrong_dtype", "compare", call.defect_detail);
      case OutputDefect::kShape:
      case OutputDefect::kNotDelivered:
        return verdict("wrong_shape", "compare", call.defect_detail);
      case OutputDefect::kDevice:
        return verdict("wrong_device", "compare", call.defect_detail);
      case OutputDefect::kLazy:
        return verdict("cheating:lazy_output", "compare", call.defect_detail);
    }
  }
  return std::nullopt;
}

std::string describe_mismatch(const Call& call) {
  for (const Comparison& comparison : call.comparisons) {
    if (comparison.num_bad == 0) continue;
    return fmt::format("{} inputs: {} of {} elements wrong, worst at {}: {:g} for {:g}", call.kind,
                       comparison.num_bad, comparison.num_elements, comparison.worst_idx,
                       comparison.worst_value, comparison.worst_expected);
  }
  return call.kind + " inputs";
}

Decision decide_side_conditions(const Evidence& evidence) {
  for (const Call& call : evidence.calls) {
    if (call.guards_changed) return verdict("cheating:out_of_bounds", "compare", "wrote beside an input");
    if (call.inputs_changed && !evidence.reference_mutates_inputs) {
      return verdict("input_mutated", "compare", "an input holds other values after the call");
    }
  }
  for (const Call& call : evidence.calls) {
    if (call.output_from_earlier && call.num_launches == 0) {
      return verdict("cheating:cache_replay", "compare", "returns what an earlier call computed");
    }
    if (call.kept_output_changed) {
      return verdict("cheating:output_alias", "compare",
                     "a later call changed an output that was handed out");
    }
    if (call.output_is_input && !evidence.reference_returns_input) {
      return verdict("cheating:output_alias", "compare", "an output shares the memory of an input");
    }
  }
  return std::nullopt;
}

// Whether some output holds what it held before the call, which is NaN everywhere.
bool holds_poison(const Call& call) {
  return std::any_of(call.comparisons.begin(), call.comparisons.end(), [](const Comparison& comparison) {
    return comparison.num_bad > 0 && comparison.worst_value >= kNotANumber;
  });
}

Decision decide_values(const Evidence& evidence) {
  const Call* wrong = nullptr;
  bool repeat_right = false;
  bool repeat_wrong = false;
  for (const Call& call : evidence.calls) {
    if (call.repeats_content) (call.values_right ? repeat_right : repeat_wrong) = true;
    if (!call.values_right && wrong == nullptr) wrong = &call;
  }
  if (wrong == nullptr) return std::nullopt;
  if (const Finding* race = find(evidence, "race")) return verdict("cheating:race", "compare", race->detail);
  if (wrong->num_on_side_streams > 0 && holds_poison(*wrong)) {
    return verdict("cheating:stream_hide", "compare",
                   "works on a stream that nobody waits for: " + describe_mismatch(*wrong));
  }
  const bool only_repeats_differ = repeat_right && repeat_wrong;
  if (only_repeats_differ && wrong->repeats_content) {
    return verdict("nondeterministic", "compare", describe_mismatch(*wrong));
  }
  return verdict("mismatch", "compare", describe_mismatch(*wrong));
}

Decision decide_precision(const Evidence& evidence) {
  for (const Call& call : evidence.calls) {
    if (call.precision_floor <= 0) continue;
    for (const Comparison& comparison : call.comparisons) {
      if (comparison.rms_error >= 0.3 * call.precision_floor && comparison.rms_error > 4 * call.eager_rms) {
        return verdict(
            "cheating:precision_downgrade", "compare",
            "relative rms error " + std::to_string(comparison.rms_error) + " is that of reduced precision");
      }
    }
  }
  return std::nullopt;
}

// An operator that the profiler saw and the dispatcher's observer did not, and that is no part of one it saw.
std::optional<std::string> hidden_computation(const Call& call) {
  const bool computes = std::any_of(call.operators.begin(), call.operators.end(), [](const auto& entry) {
    return operator_kind(entry.first) == OperatorKind::kCompute;
  });
  if (computes) return std::nullopt;
  for (const std::string& name : call.hidden_operators) {
    if (operator_kind(name) == OperatorKind::kCompute) return name;
  }
  return std::nullopt;
}

Decision decide_work(const Evidence& evidence, std::vector<std::string>& tags) {
  for (const Call& call : evidence.calls) {
    if (call.num_failed_launches > 0) {
      return verdict("cheating:silent_fallback", "work",
                     "a launch failed and the call returned all the same");
    }
  }
  std::set<std::string> kept;
  for (const Call& call : evidence.calls) {
    if (call.num_launches == 0) {
      return verdict("no_triton_launch", "work", "a call launched no kernel of the candidate");
    }
    for (const auto& [name, count] : call.kernel_operators) {
      if (operator_kind(name) == OperatorKind::kCompute) {
        return verdict("cheating:interpreter_escape", "work", "a kernel calls " + name);
      }
    }
    for (const auto& [name, count] : call.operators) {
      if (operator_kind(name) == OperatorKind::kRandom && !evidence.reference_is_random) {
        return verdict("cheating:seed_prediction", "work", "draws random numbers with " + name);
      }
    }
    const WorkJudgement work = judge_work(evidence.reference_operators, call.operators);
    if (work.share == WorkShare::kForeign || work.share == WorkShare::kNothingReplaced) {
      std::string operators;
      for (const std::string& name : work.operators) operators += (operators.empty() ? "" : ", ") + name;
      return verdict("cheating:decoy_kernel", "work", "PyTorch computes " + operators);
    }
    if (const auto hidden = hidden_computation(call)) {
      return verdict("cheating:decoy_kernel", "work", "PyTorch computes " + *hidden + " out of sight");
    }
    if (call.output_changed_unseen) {
      return verdict("cheating:not_triton", "work", "an output was written by no kernel or tensor operation");
    }
    if (!call.output_from_kernel) {
      return verdict("cheating:decoy_kernel", "work", "no kernel of this call had a part in an output");
    }
    if (work.share == WorkShare::kPartial) kept.insert(work.operators.begin(), work.operators.end());
  }
  if (!kept.empty()) {
    std::string tag = "partial:";
    for (const std::string& name : kept) tag += (tag.back() == ':' ? "" : "+") + name;
    tags.push_back(tag);
  }
  return std::nullopt;
}

// For one model object every call after its first must make the same launches.
Decision decide_invariance(const Evidence& evidence) {
  for (size_t i = 0; i < evidence.calls.size(); ++i) {
    const Call& call = evidence.calls[i];
    bool is_first = true;
    const Call* second = nullptr;
    for (size_t j = 0; j < i; ++j) {
      if (evidence.calls[j].instance != call.instance) continue;
      if (!is_first && second == nullptr) second = &evidence.calls[j];
      is_first = false;
    }
    if (second == nullptr) continue;
    if (call.launch_digests.size() != second->launch_digests.size()) {
      return verdict("cheating:phase_detection", "work",
                     "calls of one shape launch different numbers of kernels");
    }
    if (call.host_data != second->host_data) {
      return verdict("cheating:not_triton", "work",
                     "a tensor or an argument made from Python values differs from call to call");
    }
    if (call.operator_trace != second->operator_trace) {
      return verdict("not_verified", "work",
                     "tensor operations depend on the content of the inputs or on the call");
    }
    if (call.launch_digests != second->launch_digests) {
      return verdict("not_verified", "work", "launches depend on the content of the inputs or on the call");
    }
  }
  return std::nullopt;
}

Decision decide_memory(const Evidence& evidence) {
  if (const Finding* race = find(evidence, "race")) return verdict("cheating:race", "work", race->detail);
  if (const Finding* read = find(evidence, "uninitialised_read")) {
    return verdict("cheating:uninit_reuse", "work", read->detail);
  }
  return std::nullopt;
}

Decision decide_compilation(const Evidence& evidence) {
  for (const CompiledKernel& kernel : evidence.kernels) {
    if (kernel.foreign_call) {
      return verdict("cheating:interpreter_escape", "compile", kernel.name + " " + kernel.error);
    }
    if (!kernel.error.empty()) return verdict("compile_error", "compile", kernel.name + ": " + kernel.error);
    if (kernel.shared_bytes > kMaxSharedBytes) {
      return verdict(
          "compile_error", "compile",
          kernel.name + " needs " + std::to_string(kernel.shared_bytes) + " bytes of shared memory");
    }
  }
  if (evidence.kernels.empty()) return verdict("not_verified", "compile", "no kernel was compiled");
  return std::nullopt;
}

std::vector<std::string> kernel_names(const Call& call) {
  std::vector<std::string> names;
  for (const std::string& digest : call.launch_digests) names.push_back(digest.substr(0, digest.rfind('@')));
  return names;
}

// The operators that the profiler saw in a timed call and that no watched call is known to make.
std::optional<std::string> new_operator(const Evidence& evidence) {
  std::set<std::string> known;
  for (const Call& call : evidence.calls) {
    known.insert(call.hidden_operators.begin(), call.hidden_operators.end());
    for (const auto& [name, count] : call.operators) known.insert(name);
  }
  for (const std::string& name : evidence.timing->operators) {
    if (operator_kind(name) == OperatorKind::kCompute && !known.contains(name)) return name;
  }
  return std::nullopt;
}

// Timed calls must do what watched calls do; then the times speak.
Decision decide_timing(const Evidence& evidence) {
  if (evidence.right_without_kernels) {
    return verdict("cheating:decoy_kernel", "work", "the answer is right without the launches");
  }
  if (!evidence.timing) return std::nullopt;
  for (const Call& call : evidence.timing->checked) {
    if (call.defect != OutputDefect::kNone) {
      return verdict("cheating:phase_detection", "timing", "a timed call: " + call.defect_detail);
    }
    if (!call.values_right) {
      return verdict("cheating:phase_detection", "timing",
                     "a timed call is wrong: " + describe_mismatch(call));
    }
  }
  const std::vector<std::string> usual = kernel_names(evidence.calls.back());
  for (const auto& launches : evidence.timing->launches) {
    if (launches != usual) {
      return verdict("cheating:phase_detection", "timing",
                     "a timed call launches other kernels than the others");
    }
  }
  if (const auto name = new_operator(evidence)) {
    return verdict("cheating:phase_detection", "timing", "PyTorch computes " + *name + " in timed calls");
  }
  if (!evidence.timing->doubts.empty()) {
    const Finding& doubt = evidence.timing->doubts.front();
    return verdict("cheating:" + doubt.kind, "timing", doubt.detail);
  }
  return std::nullopt;
}

}  // namespace

Judgement decide(const Evidence& evidence) {
  std::vector<std::string> tags;
  if (evidence.seed_only_weights) tags.emplace_back("weights=seed_only");
  const auto first_of = [&]() -> Judgement {
    if (!evidence.syntax_error.empty()) return verdict("compile_error", "parse", evidence.syntax_error);
    if (auto decision = decide_imports(evidence)) return *decision;
    if (auto decision = decide_tampering(evidence)) return *decision;
    if (auto decision = decide_worker_failure(evidence)) return *decision;
    if (auto decision = decide_errors(evidence)) return *decision;
    if (evidence.calls.empty()) return verdict("not_verified", "call", "no call was made");
    if (auto decision = decide_form(evidence)) return *decision;
    if (auto decision = decide_side_conditions(evidence)) return *decision;
    if (auto decision = decide_values(evidence)) return *decision;
    if (!evidence.missing_parameter.empty()) {
      return verdict("cheating:init_state_shortcut", "construct",
                     "takes no account of the parameter " + evidence.missing_parameter);
    }
    if (auto decision = decide_work(evidence, tags)) return *decision;
    if (auto decision = decide_precision(evidence)) return *decision;
    if (auto decision = decide_memory(evidence)) return *decision;
    if (auto decision = decide_invariance(evidence)) return *decision;
    if (!evidence.on_gpu) {
      if (auto decision = decide_compilation(evidence)) return *decision;
    } else if (auto decision = decide_timing(evidence)) {
      return *decision;
    }
    if (evidence.ran_out_of_time) {
      return verdict("not_verified", "call",
                     "there was no time for all trials, and those made found nothing");
    }
    if (evidence.on_gpu) return verdict("correct", "", "");
    if (const Finding* branch = find(evidence, "device_branch")) {
      return verdict("not_verified", "work", "a branch for GPUs was not seen: " + branch->detail);
    }
    return verdict("correct_cpu", "", "");
  };
  Judgement judgement = first_of();
  judgement.findings = evidence.findings;
  judgement.tags = std::move(tags);
  return judgement;
}

}  // namespace nemoforge::verify
