#include "verify/judge.h"

#include <algorithm>
#include <map>
#include <optional>

#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "verify/arena.h"
#include "verify/call_evidence.h"
#include "verify/candidate_session.h"
#include "verify/evidence.h"
#include "verify/evidence_record.h"
#include "verify/problem_facts.h"
#include "verify/problem_size.h"
#include "verify/reference_worker.h"
#include "verify/state_match.h"
#include "verify/trial_plan.h"
#include "verify/worker_message.h"

namespace nemoforge::verify {
namespace {

using io::Json;
using std::chrono::seconds;

// Later calls may take ten times the first and some.
constexpr auto kLoadTimeout = seconds(60);
constexpr auto kFirstCallTimeout = seconds(120);
constexpr int64_t kOutputSlack = int64_t{1} << 16;
constexpr int kMaxFailures = 3;
constexpr uint64_t kSeedMask = (uint64_t{1} << 48) - 1;

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Judge {
 public:
  Judge(const PythonEnvironment& python, const Sandbox& sandbox, Workbench& workbench, const Json& overrides)
      : workbench_(workbench),
        overrides_(overrides),
        rng_(secret_seed()),
        candidate_(python, sandbox, evidence_) {}

  Result<JudgeReport> run(const std::string& problem, const std::string& candidate, bool another_follows);

 private:
  // Steps; false: the candidate's evidence is complete as it is.
  Result<std::optional<JudgeReport>> refuse_by_size(const std::string& problem);
  Status start(const std::string& candidate, bool another_follows);
  Status load_problem(const std::string& problem);
  Status size_arena();
  Result<bool> construct(int index, const Instance& instance);
  Result<bool> run_trial(const Trial& trial);
  bool call(const Trial& trial, const PreparedTrial& prepared, const InputSlot& slot, int slot_id);
  void look_at_kept_output();
  Result<bool> run_trials();
  [[nodiscard]] JudgeReport conclude();
  [[nodiscard]] JudgeReport refuse(const std::string& name, const std::string& detail);
  uint64_t draw_seed() { return rng_.next_u64() & kSeedMask; }

  Workbench& workbench_;
  const Json& overrides_;
  Rng rng_;
  Arena arena_;
  ReferenceWorker* reference_ = nullptr;
  Evidence evidence_;
  CandidateSession candidate_;
  Json record_ = Json::object();
  Json problem_;           // the reference's answer to load
  std::string init_blob_;  // bytes of the constructor's tensors
  int64_t slot_capacity_ = 0;
  int64_t output_offset_ = 0;
  int64_t output_room_ = 0;
  double seconds_per_call_ = 0;
  bool seed_only_ = false;
  // The trial before, for repeats.
  std::optional<PreparedTrial> previous_;
  int slot_ = 0;
  int kept_id_ = 0;
  std::vector<std::string> kept_bytes_;
  bool kept_waits_ = false;
  // Slots are tied to shapes: another shape in the same place is another slot to the candidate's process.
  std::map<std::string, int> slot_ids_;
};

// A report where this machine cannot verify the problem whatever the candidate is: nothing is run then.
Result<std::optional<JudgeReport>> Judge::refuse_by_size(const std::string& problem) {
  NF_RETURN_IF_ERROR(workbench_.warm_up());
  NF_TRY(reference_, workbench_.reference());
  NF_TRY(const std::string path, workbench_.problem_file(problem));
  const ProblemMeasurement& measurement = reference_->measure(path, overrides_);
  const SizeJudgement size = judge_size(measurement, workbench_.limits());
  if (measurement.judged) {
    record_["needs"] = to_json(*measurement.judged);
    record_["needs"]["memory_bytes"] = size.memory_bytes;
    record_["needs"]["candidate_s"] = size.candidate_s;
    record_["needs"]["reference_s"] = size.reference_s;
  }
  if (size.size_class == SizeClass::kOk) return std::optional<JudgeReport>();
  if (!size.too_large()) return refuse("not_verified", "the problem: " + size.reason);
  JudgeReport report = refuse("not_verified", "problem_too_large: " + size.reason);
  report.judgement.tags = {"problem_too_large", std::string(name_of(size.size_class))};
  return report;
}

Status Judge::start(const std::string& candidate, bool another_follows) {
  NF_TRY(reference_, workbench_.reference());
  NF_TRY(CandidateProcess process, workbench_.take_candidate_process(candidate));
  arena_ = std::move(process.arena);
  candidate_.begin(std::move(process.path), std::move(process.process));
  return another_follows ? workbench_.warm_up() : Status();
}

Status Judge::load_problem(const std::string& problem) {
  Json seeds = Json::array();
  for (int i = 0; i < 8; ++i) seeds.push_back(draw_seed());
  NF_TRY(const std::string path, workbench_.problem_file(problem));
  NF_TRY(const LoadedProblem* loaded, reference_->load(path, overrides_, seeds));
  record_["seeds"]["gate"] = loaded->seeds;
  problem_ = loaded->facts;
  init_blob_ = loaded->init_blob;
  // Those that were asked for, or smaller numbers of rows where the problem is too large for the interpreter.
  record_["overrides"] = problem_["overrides"];
  record_["problem"] = problem_record(problem_);
  note_reference(problem_, evidence_);
  return {};
}

// The arena's size follows from one trial: every trial has the same shapes, or is dropped.
Status Judge::size_arena() {
  NF_RETURN_IF_ERROR(
      reference_->ask({{"command", "construct"}, {"model", 0}, {"seed", draw_seed()}}, nullptr));
  NF_TRY(PreparedTrial trial, reference_->prepare({.kind = "plain", .instance = 0, .seed = draw_seed()}));
  const InputSlot slot(0, trial.sizes);
  int64_t total = 0;
  for (const ExpectedOutput& output : trial.outputs) {
    total += output_bytes(output);
  }
  slot_capacity_ = slot.end() + 4096;
  output_offset_ = 2 * slot_capacity_;
  output_room_ = total + kOutputSlack;
  if (output_offset_ + output_room_ > kMaxArenaBytes) {
    return error(ErrorCode::kResourceExhausted, "the problem's tensors are too large for the interpreter",
                 "give smaller sizes with --overrides");
  }
  return arena_.set_size(output_offset_ + output_room_ + 4096);
}

// Makes instance `index` in both processes. False: the candidate failed.
Result<bool> Judge::construct(int index, const Instance& instance) {
  Json request = {{"command", "construct"}, {"model", index}, {"seed", instance.seed}};
  if (instance.perturb) request["perturb"] = *instance.perturb;
  std::string blob;
  NF_TRY(const Json reference, reference_->ask(request, &blob));
  Json reply;
  if (!candidate_.ask({{"command", "construct"},
                       {"instance", index},
                       {"seed", instance.seed},
                       {"evaluate", problem_["evaluate"]},
                       {"init", problem_["init"]}},
                      init_blob_, kFirstCallTimeout, "construct", &reply)) {
    return false;
  }
  slot_ids_.clear();
  const StateMatch match =
      match_state(array_of(reference, "state"), blob, array_of(reply, "state"), problem_["parameters"]);
  seed_only_ = seed_only_ || match.seed_only;
  if (!match.missing_parameter.empty()) evidence_.missing_parameter = match.missing_parameter;
  if (!instance.perturb || match.tensors.empty()) return true;
  return candidate_.ask({{"command", "set_state"}, {"instance", index}, {"tensors", match.tensors}},
                        match.blob, kLoadTimeout, "construct", &reply);
}

// One call with everything that is checked around it. False: the candidate failed.
bool Judge::call(const Trial& trial, const PreparedTrial& prepared, const InputSlot& slot, int slot_id) {
  Json inputs = prepared.inputs;
  size_t index = 0;
  for_each_tensor(inputs, [&](Json& leaf) { leaf["offset"] = slot.tensors()[index++].offset; });
  const auto output_area = arena_.at(output_offset_, output_room_);
  std::fill(output_area.begin(), output_area.end(), std::byte{0xFF});
  const bool is_first = seconds_per_call_ == 0;
  const auto timeout = is_first ? std::chrono::duration_cast<Clock::duration>(kFirstCallTimeout)
                                : std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(30 + 10 * seconds_per_call_));
  const int keep = trial.keep && !kept_waits_ ? ++kept_id_ : 0;
  const Clock::time_point begin = Clock::now();
  Json reply;
  const bool answered = candidate_.ask({{"command", "call"},
                                        {"instance", trial.instance},
                                        {"slot", slot_id},
                                        {"inputs", inputs},
                                        {"shuffle", trial.shuffle},
                                        {"record_accesses", trial.record_accesses},
                                        {"profile", trial.profile},
                                        {"output_offset", output_offset_},
                                        {"output_bytes", output_room_},
                                        {"keep", keep}},
                                       {}, timeout, "call", &reply);
  if (!answered) return false;
  // By the judge's own clock.
  const double took = std::chrono::duration<double>(Clock::now() - begin).count();
  if (is_first) seconds_per_call_ = std::max(took, 1e-6);
  Call seen = read_call(trial, reply);
  seen.seconds = took;
  seen.eager_rms = prepared.eager_rms;
  seen.precision_floor = prepared.precision_floor;
  seen.inputs_changed = !slot.inputs_intact(arena_, prepared.input_bytes);
  seen.guards_changed = !slot.guards_intact(arena_);
  judge_outputs(reply, prepared.outputs, arena_.at(output_offset_, output_room_), seen);
  evidence_.calls.push_back(std::move(seen));
  if (kept_waits_ && !trial.repeats_previous) look_at_kept_output();
  if (keep != 0 && evidence_.calls.back().defect == OutputDefect::kNone) {
    kept_bytes_ = {text_of(arena_.at(output_offset_, output_room_ - kOutputSlack))};
    kept_waits_ = true;
  }
  return evidence_.worker_failure == std::nullopt;
}

void Judge::look_at_kept_output() {
  kept_waits_ = false;
  const auto output_area = arena_.at(output_offset_, output_room_);
  std::fill(output_area.begin(), output_area.end(), std::byte{0xFF});
  Json reply;
  if (!candidate_.ask({{"command", "copy_kept"},
                       {"keep", kept_id_},
                       {"output_offset", output_offset_},
                       {"output_bytes", output_room_}},
                      {}, kLoadTimeout, "call", &reply)) {
    return;
  }
  evidence_.calls.back().kept_output_changed =
      text_of(arena_.at(output_offset_, output_room_ - kOutputSlack)) != kept_bytes_.front();
}

// False: the candidate failed. A trial that the reference drops changes nothing.
Result<bool> Judge::run_trial(const Trial& trial) {
  if (!trial.repeats_previous) {
    NF_TRY(PreparedTrial prepared, reference_->prepare(trial));
    if (!prepared.dropped.empty()) {
      record_["dropped"].push_back({{"kind", trial.kind}, {"why", prepared.dropped}});
      return true;
    }
    previous_ = std::move(prepared);
    slot_ = static_cast<int>(rng_.below(2));
  } else if (!previous_) {
    return true;
  } else if (trial.other_slot) {
    slot_ = 1 - slot_;
  }
  const InputSlot slot(slot_ * slot_capacity_, previous_->sizes);
  if (slot.end() > (slot_ + 1) * slot_capacity_) return true;
  slot.fill(arena_, previous_->input_bytes);
  const std::string shape = std::to_string(slot_) + io::dump_json(previous_->inputs);
  const int slot_id = slot_ids_.emplace(shape, static_cast<int>(slot_ids_.size())).first->second;
  return call(trial, *previous_, slot, slot_id);
}

Result<bool> Judge::run_trials() {
  const uint64_t first_seed = draw_seed();
  NF_TRY(const bool constructed, construct(0, {first_seed, std::nullopt}));
  if (!constructed) return false;
  NF_TRY(const bool called,
         run_trial({.kind = "plain", .instance = 0, .seed = draw_seed(), .record_accesses = true}));
  if (!called) return false;
  PlanFacts facts;
  facts.seed = draw_seed();
  for (const Json& kind : problem_["gate"]["kept"]) facts.kinds.push_back(kind.get<std::string>());
  facts.has_parameters = !problem_["parameters"].empty() && !seed_only_;
  for (const Json& seed : problem_["kernelbench_seeds"])
    facts.kernelbench_seeds.push_back(seed.get<uint64_t>());
  facts.seconds_per_call = seconds_per_call_;
  const Plan plan = make_plan(facts, first_seed);
  for (const Instance& instance : plan.instances) {
    record_["seeds"]["instances"].push_back(
        {{"seed", instance.seed}, {"perturb", instance.perturb ? Json(*instance.perturb) : Json()}});
  }
  for (size_t i = 1; i < plan.instances.size(); ++i) {
    NF_TRY(const bool made, construct(static_cast<int>(i), plan.instances[i]));
    if (!made) return false;
  }
  for (const Trial& trial : plan.trials) {
    if (!candidate_.has_time_for_trials()) {
      evidence_.ran_out_of_time = true;
      break;
    }
    record_["seeds"]["trials"].push_back({{"kind", trial.kind},
                                          {"instance", trial.instance},
                                          {"seed", trial.seed},
                                          {"shuffle", trial.shuffle}});
    NF_TRY(const bool went_on, run_trial(trial));
    if (!went_on) return false;
    const auto failures = std::count_if(evidence_.calls.begin(), evidence_.calls.end(), [](const Call& call) {
      return !call.values_right || call.defect != OutputDefect::kNone;
    });
    if (failures >= kMaxFailures) break;
  }
  return true;
}

JudgeReport Judge::refuse(const std::string& name, const std::string& detail) {
  JudgeReport report;
  report.judgement.name = name;
  report.judgement.stage = "problem";
  report.judgement.detail = detail;
  report.record = std::move(record_);
  return report;
}

JudgeReport Judge::conclude() {
  evidence_.seed_only_weights = seed_only_;
  JudgeReport report;
  report.judgement = decide(evidence_);
  add_evidence(evidence_, record_);
  report.record = std::move(record_);
  return report;
}

Result<JudgeReport> Judge::run(const std::string& problem, const std::string& candidate,
                               bool another_follows) {
  NF_TRY(std::optional<JudgeReport> refusal, refuse_by_size(problem));
  if (refusal) return std::move(*refusal);
  NF_RETURN_IF_ERROR(start(candidate, another_follows));
  if (const Status loaded = load_problem(problem); !loaded)
    return refuse("not_verified", loaded.error().to_string());
  if (const auto why = find_unjudgeable(problem_)) return refuse(why->name, why->detail);
  if (const Status sized = size_arena(); !sized) return refuse("not_verified", sized.error().to_string());
  if (const Status met = candidate_.greet({{"arena_bytes", arena_.size()}}, record_); !met) {
    return refuse("not_verified", met.error().to_string());
  }
  if (candidate_.load()) {
    const auto went_on = run_trials();
    if (!went_on) return refuse("not_verified", went_on.error().to_string());
  }
  candidate_.finish();
  return conclude();
}

}  // namespace

Result<JudgeReport> judge_candidate(const PythonEnvironment& python, const Sandbox& sandbox,
                                    Workbench& workbench, const std::string& problem,
                                    const std::string& candidate, const Json& overrides,
                                    bool another_follows) {
  Judge judge(python, sandbox, workbench, overrides);
  return judge.run(problem, candidate, another_follows);
}

}  // namespace nemoforge::verify
