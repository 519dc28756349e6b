#include "verify/device_judge.h"

#include <algorithm>
#include <future>
#include <map>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "verify/call_evidence.h"
#include "verify/candidate_session.h"
#include "verify/device_evidence.h"
#include "verify/device_timing.h"
#include "verify/evidence.h"
#include "verify/evidence_record.h"
#include "verify/problem_facts.h"
#include "verify/state_match.h"
#include "verify/trial_plan.h"
#include "verify/worker_message.h"

namespace nemoforge::verify {
namespace {

using io::Json;
using std::chrono::seconds;

constexpr auto kLoadTimeout = seconds(60);
// Compilation, a tuner's trials and the first launches.
constexpr auto kFirstCallTimeout = seconds(60);
constexpr auto kPingTimeout = seconds(30);
constexpr int kMaxFailures = 3;
// Models that take longer than this many seconds to make are made for one of KernelBench's seeds, not for
// all.
constexpr double kSlowModel = 0.3;
// What the candidate's process may have of the memory that is free when it starts.
constexpr double kMemoryShare = 0.9;
constexpr double kMaxMessageFactor = 1.5;
constexpr uint64_t kSeedMask = (uint64_t{1} << 48) - 1;

std::chrono::milliseconds call_timeout(double seconds_per_call) {
  return std::chrono::milliseconds(static_cast<int64_t>(1e3 * (15 + 10 * seconds_per_call)));
}

class DeviceJudge {
 public:
  DeviceJudge(const PythonEnvironment& python, const Sandbox& sandbox, Workbench& workbench,
              GpuDevice& device, const DeviceJudgeOptions& options, const Json& overrides)
      : workbench_(workbench),
        device_(device),
        options_(options),
        overrides_(overrides),
        rng_(secret_seed()),
        candidate_(python, sandbox, evidence_) {
    evidence_.on_gpu = true;
  }

  Result<JudgeReport> run(const std::string& problem, const std::string& candidate, bool another_follows);

 private:
  Status load_problem(const std::string& problem);
  Status share_memory();
  // Steps; false: the candidate failed, which the evidence says.
  Result<bool> construct(int index, const Instance& instance);
  Result<bool> run_trial(const Trial& trial);
  Result<bool> call(const Trial& trial, const char* command, const char* stage);
  Status look_at_kept_output();
  Result<bool> run_trials();
  Result<bool> time(const std::string& problem);
  Result<bool> time_once(const Baselines& reference);
  Result<bool> call_without_kernels();
  [[nodiscard]] Result<const Baselines*> baselines(const std::string& problem);
  void record_times(const Timing& timing, const Baselines& baselines, const TimedCalls& calls);
  [[nodiscard]] JudgeReport conclude();
  [[nodiscard]] JudgeReport refuse(const std::string& name, const std::string& detail);
  uint64_t draw_seed() { return rng_.next_u64() & kSeedMask; }
  [[nodiscard]] Result<Json> ask_reference(const Json& message);

  Workbench& workbench_;
  GpuDevice& device_;
  const DeviceJudgeOptions& options_;
  const Json& overrides_;
  Rng rng_;
  ReferenceWorker* reference_ = nullptr;
  Evidence evidence_;
  CandidateSession candidate_;
  Json record_ = Json::object();
  Json problem_;
  Json memory_;  // the reference's answer to share
  std::string init_blob_;
  Json inputs_;     // of the trial that is staged
  Json outputs_;    // their expected form
  Json expected_;   // the reference's answer to the trial
  Trial previous_;  // whose inputs and answers the reference holds
  bool has_previous_ = false;
  int slot_ = 0;
  double seconds_per_call_ = 0;
  double seconds_per_trial_ = 0;  // of the reference's work before a call
  double seconds_per_model_ = 0;
  double message_ms_ = 0;
  bool seed_only_ = false;
  int kept_id_ = 0;
  bool kept_waits_ = false;
  bool ended_ = false;  // the candidate's process, after its last call
  std::map<std::string, int> slot_ids_;
  std::vector<std::string> tags_;
};

Result<Json> DeviceJudge::ask_reference(const Json& message) {
  const GpuTurns::Turn turn = device_.turns.share();
  return reference_->ask(message, nullptr);
}

Status DeviceJudge::load_problem(const std::string& problem) {
  Json seeds = Json::array();
  for (int i = 0; i < 8; ++i) seeds.push_back(draw_seed());
  NF_TRY(const std::string path, workbench_.problem_file(problem));
  const GpuTurns::Turn turn = device_.turns.share();
  NF_TRY(const LoadedProblem* loaded, reference_->load(path, overrides_, seeds));
  record_["seeds"]["gate"] = loaded->seeds;
  problem_ = loaded->facts;
  init_blob_ = loaded->init_blob;
  record_["problem"] = problem_record(problem_);
  note_reference(problem_, evidence_);
  return {};
}

Status DeviceJudge::share_memory() {
  NF_TRY(memory_, ask_reference({{"command", "share"}, {"seed", draw_seed()}}));
  record_["gpu"] = memory_["card"];
  return {};
}

Result<bool> DeviceJudge::construct(int index, const Instance& instance) {
  Json request = {{"command", "construct"}, {"model", index}, {"seed", instance.seed}};
  if (instance.perturb) request["perturb"] = *instance.perturb;
  // Both sides at once: large models take seconds to be filled with random numbers.
  const Clock::time_point begin = Clock::now();
  auto made = std::async(std::launch::async, [&] { return ask_reference(request); });
  Json reply;
  const bool answered = candidate_.ask({{"command", "construct"},
                                        {"instance", index},
                                        {"seed", instance.seed},
                                        {"evaluate", problem_["evaluate"]},
                                        {"init", problem_["init"]}},
                                       init_blob_, kFirstCallTimeout, "construct", &reply);
  NF_TRY(const Json reference, made.get());
  seconds_per_model_ = std::chrono::duration<double>(Clock::now() - begin).count();
  if (!answered) return false;
  slot_ids_.clear();
  const StateMatch match =
      match_state(array_of(reference, "state"), {}, array_of(reply, "state"), problem_["parameters"]);
  seed_only_ = seed_only_ || match.seed_only;
  if (!match.missing_parameter.empty()) evidence_.missing_parameter = match.missing_parameter;
  if (!instance.perturb || match.tensors.empty()) return true;
  return candidate_.ask({{"command", "set_state"}, {"instance", index}, {"tensors", match.tensors}}, {},
                        kLoadTimeout, "construct", &reply);
}

Result<bool> DeviceJudge::run_trial(const Trial& trial) {
  const Clock::time_point begin = Clock::now();
  if (trial.repeats_previous) {
    if (!has_previous_) return true;
    if (trial.other_slot) slot_ = 1 - slot_;
    NF_TRY(const Json again,
           ask_reference({{"command", "trial"}, {"again", true}, {"kind", previous_.kind}, {"slot", slot_}}));
    inputs_ = again["inputs"];
  } else {
    slot_ = static_cast<int>(rng_.below(2));
    NF_TRY(expected_, ask_reference({{"command", "trial"},
                                     {"model", trial.instance},
                                     {"kind", trial.kind == "kernelbench" ? "plain" : trial.kind},
                                     {"seed", trial.seed},
                                     {"slot", slot_},
                                     {"precision", trial.kind == "normal"}}));
    has_previous_ = false;
    seconds_per_trial_ = std::chrono::duration<double>(Clock::now() - begin).count();
    if (expected_["dropped"].is_string()) {
      record_["dropped"].push_back({{"kind", trial.kind}, {"why", expected_["dropped"]}});
      return true;
    }
    inputs_ = expected_["inputs"];
    outputs_ = expected_["outputs"];
    previous_ = trial;
    has_previous_ = true;
  }
  return call(trial, "call", "call");
}

// One call with everything that is checked around it.
Result<bool> DeviceJudge::call(const Trial& trial, const char* command, const char* stage) {
  const std::string shape = io::dump_json(inputs_);
  const int slot_id = slot_ids_.emplace(shape, static_cast<int>(slot_ids_.size())).first->second;
  const bool is_first = seconds_per_call_ == 0;
  // What is large is not held twice.
  const bool may_keep = !get(memory_, "large", false) && std::string_view(command) == "call";
  const int keep = trial.keep && may_keep && !kept_waits_ ? ++kept_id_ : 0;
  Json reply;
  double took = 0;
  {
    // A first call is for the most part compilation, which uses no GPU: nobody waits for it.
    std::optional<GpuTurns::Turn> turn;
    if (!is_first) turn.emplace(device_.turns.share());
    const Clock::time_point begin = Clock::now();
    const bool answered = candidate_.ask(
        {{"command", command},
         {"instance", trial.instance},
         {"slot", slot_id},
         {"inputs", inputs_},
         {"shuffle", 0},
         {"record_accesses", false},
         {"profile", trial.profile},
         {"output_offset", memory_["output_offset"]},
         {"output_bytes", memory_["output_bytes"]},
         {"keep", keep}},
        {}, is_first ? std::chrono::milliseconds(kFirstCallTimeout) : call_timeout(seconds_per_call_), stage,
        &reply);
    took = std::chrono::duration<double>(Clock::now() - begin).count();
    if (!answered) return false;
  }
  if (is_first || evidence_.calls.size() == 1) seconds_per_call_ = std::max(took, 1e-6);
  Call seen = read_call(trial, reply);
  seen.seconds = took;
  seen.eager_rms = get(expected_, "eager_rms", 0.0);
  const double floor = std::min(get(expected_, "tf32_rms", 0.0), get(expected_, "fp16_rms", 0.0));
  if (floor > 1e-6 && floor > 20 * seen.eager_rms) seen.precision_floor = floor;
  if (check_form(reply, outputs_, seen)) {
    NF_TRY(const Json comparison,
           ask_reference({{"command", "compare"}, {"model", trial.instance}, {"hold", keep != 0}}));
    judge_device_outputs(reply, outputs_, comparison, seen);
  }
  const bool formed = seen.defect == OutputDefect::kNone;
  if (std::string_view(command) != "call") {
    evidence_.right_without_kernels = formed && seen.values_right && seen.num_launches == 0;
    return true;
  }
  evidence_.calls.push_back(std::move(seen));
  if (kept_waits_ && !trial.repeats_previous) NF_RETURN_IF_ERROR(look_at_kept_output());
  if (keep != 0 && formed) kept_waits_ = true;
  return !evidence_.worker_failure;
}

Status DeviceJudge::look_at_kept_output() {
  kept_waits_ = false;
  NF_RETURN_IF_ERROR(ask_reference({{"command", "clear_output"}}));
  Json reply;
  if (!candidate_.ask({{"command", "copy_kept"},
                       {"keep", kept_id_},
                       {"output_offset", memory_["output_offset"]},
                       {"output_bytes", memory_["output_bytes"]}},
                      {}, kLoadTimeout, "call", &reply)) {
    return {};
  }
  NF_TRY(const Json held, ask_reference({{"command", "compare_held"}}));
  evidence_.calls.back().kept_output_changed = get(held, "changed", true);
  return {};
}

Result<bool> DeviceJudge::run_trials() {
  const uint64_t first_seed = draw_seed();
  NF_TRY(const bool constructed, construct(0, {first_seed, std::nullopt}));
  if (!constructed) return false;
  // Twice: the first call compiles, the second says how long a call takes.
  for (int i = 0; i < 2; ++i) {
    NF_TRY(const bool called, run_trial({.kind = "plain", .instance = 0, .seed = draw_seed()}));
    if (!called) return false;
  }
  PlanFacts facts;
  facts.seed = draw_seed();
  for (const Json& kind : problem_["gate"]["kept"]) facts.kinds.push_back(kind.get<std::string>());
  facts.has_parameters = !problem_["parameters"].empty() && !seed_only_;
  for (const Json& seed : problem_["kernelbench_seeds"]) {
    // Each of these has a model of its own.
    if (facts.has_parameters && seconds_per_model_ > kSlowModel && !facts.kernelbench_seeds.empty()) break;
    facts.kernelbench_seeds.push_back(seed.get<uint64_t>());
  }
  // The reference's work counts: where it takes long the plan is the short one.
  facts.seconds_per_call = seconds_per_call_ + seconds_per_trial_;
  const Plan plan = make_plan(facts, first_seed);
  for (const Instance& instance : plan.instances) {
    record_["seeds"]["instances"].push_back(
        {{"seed", instance.seed}, {"perturb", instance.perturb ? Json(*instance.perturb) : Json()}});
  }
  // Each model when it is first asked: large ones would not all fit beside each other.
  std::vector<bool> made(plan.instances.size(), false);
  made[0] = true;
  for (const Trial& trial : plan.trials) {
    if (!candidate_.has_time_for_trials()) {
      evidence_.ran_out_of_time = true;
      break;
    }
    const auto index = static_cast<size_t>(trial.instance);
    if (!made[index]) {
      NF_TRY(const bool constructed_now, construct(trial.instance, plan.instances[index]));
      if (!constructed_now) return false;
      made[index] = true;
    }
    record_["seeds"]["trials"].push_back(
        {{"kind", trial.kind}, {"instance", trial.instance}, {"seed", trial.seed}});
    NF_TRY(const bool went_on, run_trial(trial));
    if (!went_on) return false;
    const auto failures = std::count_if(evidence_.calls.begin(), evidence_.calls.end(), [](const Call& call) {
      return !call.values_right || call.defect != OutputDefect::kNone;
    });
    if (failures >= kMaxFailures) break;
  }
  return true;
}

Result<const Baselines*> DeviceJudge::baselines(const std::string& problem) {
  const std::string key = problem + io::dump_json(overrides_);
  const std::scoped_lock lock(device_.mutex);
  const auto found = device_.baselines.find(key);
  if (found != device_.baselines.end()) return &found->second;
  NF_TRY(Baselines measured, time_reference(*reference_, rng_, 0, options_.time_compiled));
  return &device_.baselines.emplace(key, std::move(measured)).first->second;
}

Result<bool> DeviceJudge::time(const std::string& problem) {
  Json released;
  if (!candidate_.ask({{"command", "release"}}, {}, kLoadTimeout, "timing", &released)) return false;
  const GpuTurns::Turn turn = device_.turns.alone();
  NF_TRY(const Baselines* reference, baselines(problem));
  NF_TRY(const bool timed, time_once(*reference));
  if (!timed || evidence_.timing->doubts.empty()) return timed;
  // What a machine that was busy for a moment makes of a time it does not make of it again.
  const TimingEvidence first = std::move(*evidence_.timing);
  evidence_.timing.reset();
  NF_TRY(const bool timed_again, time_once(*reference));
  if (!timed_again) return false;
  TimingEvidence& both = *evidence_.timing;
  both.launches.insert(both.launches.end(), first.launches.begin(), first.launches.end());
  both.checked.insert(both.checked.end(), first.checked.begin(), first.checked.end());
  both.operators.insert(both.operators.end(), first.operators.begin(), first.operators.end());
  record_["timing"]["first_doubt"] = first.doubts.front().kind + ": " + first.doubts.front().detail;
  return true;
}

// False: there are no times, and the evidence says why.
Result<bool> DeviceJudge::time_once(const Baselines& reference) {
  TimedProblem timed;
  timed.outputs = outputs_;
  timed.output_offset = get<int64_t>(memory_, "output_offset", 0);
  timed.output_bytes = get<int64_t>(memory_, "output_bytes", 0);
  timed.seconds_per_call = seconds_per_call_;
  Timing timing;
  NF_TRY(const TimedCalls calls,
         time_candidate(*reference_, candidate_, rng_, timed, evidence_, &timing.deliver_ms));
  if (calls.wall_ms.empty()) return false;
  timing.message_ms = message_ms_;
  timing.eager = event_time(reference.eager);
  if (reference.compiled) timing.compiled = event_time(*reference.compiled);
  timing.kernel_wall = wall_time(calls, timing.message_ms);
  timing.kernel_event = event_time(calls);
  timing.settled = median_interval(calls.settled_ms);
  Floor floor;
  floor.bytes = get(memory_["floor"], "bytes", 0.0);
  floor.copy_bytes_per_s = get(memory_["card"], "copy_bytes_per_s", 0.0);
  floor.output_bytes = get(memory_, "output_bytes", 0.0);
  evidence_.timing->doubts = doubts_of(timing, floor);
  tags_ = tags_of(timing);
  record_["timing"]["floor_ms"] = floor_ms(floor);
  record_["timing"]["input_shares"] = memory_["floor"]["input_shares"];
  record_times(timing, reference, calls);
  return true;
}

void DeviceJudge::record_times(const Timing& timing, const Baselines& baselines, const TimedCalls& calls) {
  const auto interval = [](const MedianInterval& value) {
    return Json({{"median", value.median}, {"low", value.low}, {"high", value.high}});
  };
  Json& figures = record_["timing"];
  const MedianInterval& kernel = timing.kernel();
  figures["kernel_ms"] = interval(kernel);
  figures["kernel_wall_ms"] = interval(timing.kernel_wall);
  figures["kernel_event_ms"] = interval(timing.kernel_event);
  figures["eager_ms"] = interval(timing.eager);
  figures["speedup"] = interval(speedup(timing.eager, kernel));
  figures["settled_ms"] = interval(timing.settled);
  figures["message_ms"] = timing.message_ms;
  figures["deliver_ms"] = timing.deliver_ms;
  figures["calls"] = {{"kernel", calls.wall_ms.size()}, {"eager", baselines.eager.wall_ms.size()}};
  figures["kernel_event_ms_of_each"] = calls.event_ms;
  record_["kernel_ms"] = kernel.median;
  record_["eager_ms"] = timing.eager.median;
  record_["reference_ms"] = timing.eager.median;
  record_["speedup"] = timing.eager.median / kernel.median;
  if (timing.compiled) {
    figures["compile_ms"] = interval(*timing.compiled);
    figures["speedup_compile"] = interval(speedup(*timing.compiled, kernel));
    record_["compile_ms"] = timing.compiled->median;
    record_["speedup_compile"] = timing.compiled->median / kernel.median;
  } else if (!baselines.compile_failure.empty()) {
    figures["compile_failure"] = baselines.compile_failure;
  }
}

// What an answer owes to the kernels: the last call of all, since what it leaves behind is of no use.
Result<bool> DeviceJudge::call_without_kernels() {
  Trial trial;
  trial.kind = "normal";
  trial.seed = draw_seed();
  NF_TRY(expected_, ask_reference({{"command", "trial"},
                                   {"model", 0},
                                   {"kind", trial.kind},
                                   {"seed", trial.seed},
                                   {"slot", 0},
                                   {"precision", false}}));
  if (expected_["dropped"].is_string()) return true;
  inputs_ = expected_["inputs"];
  outputs_ = expected_["outputs"];
  // A failure says that the kernels were needed, whatever else it does.
  const size_t num_errors = evidence_.errors.size();
  const size_t num_findings = evidence_.findings.size();
  NF_TRY(const bool answered, call(trial, "suppressed", "work"));
  evidence_.errors.resize(num_errors);
  evidence_.findings.resize(num_findings);
  if (evidence_.worker_failure) {
    evidence_.worker_failure.reset();
    ended_ = true;
  }
  return answered;
}

JudgeReport DeviceJudge::refuse(const std::string& name, const std::string& detail) {
  JudgeReport report;
  report.judgement.name = name;
  report.judgement.stage = "problem";
  report.judgement.detail = detail;
  report.record = std::move(record_);
  return report;
}

JudgeReport DeviceJudge::conclude() {
  evidence_.seed_only_weights = seed_only_;
  JudgeReport report;
  report.judgement = decide(evidence_);
  report.judgement.tags.insert(report.judgement.tags.end(), tags_.begin(), tags_.end());
  if (!report.judgement.correct() ||
      std::find(tags_.begin(), tags_.end(), "timing_untrusted") != tags_.end()) {
    // The times of what is not right, or of no use, are kept as evidence alone.
    for (const char* key : {"speedup", "speedup_compile", "kernel_ms"}) record_.erase(key);
  }
  add_evidence(evidence_, record_);
  report.record = std::move(record_);
  return report;
}

Result<JudgeReport> DeviceJudge::run(const std::string& problem, const std::string& candidate,
                                     bool another_follows) {
  NF_RETURN_IF_ERROR(workbench_.warm_up());
  NF_TRY(reference_, workbench_.reference());
  NF_TRY(CandidateProcess process, workbench_.take_candidate_process(candidate));
  candidate_.begin(std::move(process.path), std::move(process.process));
  if (another_follows) NF_RETURN_IF_ERROR(workbench_.warm_up());
  if (const Status loaded = load_problem(problem); !loaded)
    return refuse("not_verified", loaded.error().to_string());
  if (const auto why = find_unjudgeable(problem_)) return refuse(why->name, why->detail);
  if (const Status shared = share_memory(); !shared)
    return refuse("not_verified", shared.error().to_string());
  const Json memory = {{"area", {{"handle", memory_["handle"]}, {"bytes", memory_["bytes"]}}},
                       {"memory_share", kMemoryShare * get(memory_, "free_share", 0.5)}};
  if (const Status met = candidate_.greet(memory, record_); !met) {
    return refuse("not_verified", met.error().to_string());
  }
  {
    const GpuTurns::Turn turn = device_.turns.alone();
    const auto messages = time_messages(*reference_, candidate_, rng_);
    if (!messages) return refuse("not_verified", messages.error().to_string());
    // On a machine that was busy just then a call of nothing takes longer than it has to; no candidate may
    // gain by it.
    device_.least_message_ms = std::min(device_.least_message_ms, *messages);
    message_ms_ = std::min(*messages, kMaxMessageFactor * device_.least_message_ms);
  }
  bool goes_on = candidate_.load();
  if (goes_on) {
    const auto tried = run_trials();
    if (!tried) return refuse("not_verified", tried.error().to_string());
    goes_on = *tried;
  }
  if (!goes_on || !decide(evidence_).correct()) {
    candidate_.look_around();
  } else {
    const auto timed = time(problem);
    if (!timed) return refuse("not_verified", timed.error().to_string());
    candidate_.look_around();
    if (*timed && !evidence_.worker_failure) {
      const auto left_out = call_without_kernels();
      if (!left_out) return refuse("not_verified", left_out.error().to_string());
    }
  }
  if (!ended_) candidate_.end();
  if (evidence_.worker_failure) {
    // A candidate that took the GPU with it has taken the reference too: the next one gets another.
    if (!reference_->ask_within({{"command", "ping"}}, kPingTimeout)) {
      record_["gpu_was_lost"] = true;
    }
  }
  return conclude();
}

}  // namespace

Result<JudgeReport> judge_on_gpu(const PythonEnvironment& python, const Sandbox& sandbox,
                                 Workbench& workbench, GpuDevice& device, const DeviceJudgeOptions& options,
                                 const std::string& problem, const std::string& candidate,
                                 const Json& overrides, bool another_follows) {
  DeviceJudge judge(python, sandbox, workbench, device, options, overrides);
  return judge.run(problem, candidate, another_follows);
}

}  // namespace nemoforge::verify
