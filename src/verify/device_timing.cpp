#include "verify/device_timing.h"

#include <algorithm>
#include <functional>
#include <string>

#include "verify/device_evidence.h"
#include "verify/worker_message.h"

namespace nemoforge::verify {
namespace {

using io::Json;
using std::chrono::seconds;

constexpr uint64_t kSeedMask = (uint64_t{1} << 48) - 1;
constexpr int kWarmUps = 3;
constexpr int kMinCalls = 25;
constexpr int kMaxCalls = 100;
constexpr int kMessageCalls = 15;
// Calls end when the median is known this well, or after this time.
constexpr double kWantedHalfWidth = 0.01;
constexpr auto kMaxDuration = seconds(8);
constexpr auto kIdleTimeout = seconds(30);
constexpr auto kCompileTimeout = seconds(240);
constexpr int kMinChecks = 3;
constexpr int kMaxChecks = 6;

double elapsed_ms(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

void note_times(const Json& reply, TimedCalls& calls) {
  calls.event_ms.push_back(get(reply, "event_ms", 0.0));
  calls.settled_ms.push_back(get(reply, "settled_ms", 0.0));
}

bool known_well(const TimedCalls& calls) {
  if (calls.event_ms.size() < kMinCalls) return false;
  const MedianInterval interval = median_interval(calls.event_ms);
  return interval.high - interval.low < 2 * kWantedHalfWidth * interval.median;
}

Result<TimedCalls> time_reference_calls(ReferenceWorker& reference, Rng& rng, int instance, bool compiled) {
  TimedCalls calls;
  const Clock::time_point begin = Clock::now();
  for (int i = -kWarmUps; i < kMaxCalls; ++i) {
    NF_RETURN_IF_ERROR(
        reference.ask({{"command", "stage_timed"}, {"seed", rng.next_u64() & kSeedMask}}, nullptr));
    const Clock::time_point start = Clock::now();
    NF_TRY(
        const Json reply,
        reference.ask({{"command", "time_reference"}, {"model", instance}, {"compiled", compiled}}, nullptr));
    const double wall = elapsed_ms(start);
    if (i < 0) continue;
    calls.wall_ms.push_back(wall);
    note_times(reply, calls);
    if (known_well(calls)) break;
    if (calls.wall_ms.size() >= kMinCalls && Clock::now() - begin > kMaxDuration) break;
  }
  return calls;
}

std::vector<std::string> names_in(const Json& reply, const char* key) {
  std::vector<std::string> names;
  for (const Json& name : array_of(reply, key)) {
    names.push_back(name.is_string() ? name.get<std::string>() : std::string());
  }
  return names;
}

// Inputs of one form and place are the same tensors to the candidate's process in every call.
std::string slot_name(const Json& inputs) {
  return "timed " + std::to_string(std::hash<std::string>{}(io::dump_json(inputs)));
}

}  // namespace

Result<Baselines> time_reference(ReferenceWorker& reference, Rng& rng, int instance, bool compiled) {
  Baselines baselines;
  NF_TRY(baselines.eager, time_reference_calls(reference, rng, instance, false));
  if (!compiled) return baselines;
  const auto made = reference.ask_within({{"command", "compile"}, {"model", instance}}, kCompileTimeout);
  if (!made) {
    // The reference's process goes on where it answered; where it did not, the next question fails.
    baselines.compile_failure = made.error().message.substr(0, 500);
    if (!reference.running()) return forward_error(made);
    return baselines;
  }
  NF_TRY(baselines.compiled, time_reference_calls(reference, rng, instance, true));
  NF_RETURN_IF_ERROR(reference.ask({{"command", "forget_compiled"}}, nullptr));
  return baselines;
}

Result<double> time_messages(ReferenceWorker& reference, CandidateSession& candidate, Rng& rng) {
  TimedCalls calls;
  for (int i = -kWarmUps; i < kMessageCalls; ++i) {
    // As before a timed call: the GPU and the processors worked for the other process last.
    NF_RETURN_IF_ERROR(
        reference.ask({{"command", "stage_timed"}, {"seed", rng.next_u64() & kSeedMask}}, nullptr));
    Json reply;
    const Clock::time_point start = Clock::now();
    if (!candidate.ask({{"command", "idle"}}, {}, kIdleTimeout, "start", &reply)) {
      return error(ErrorCode::kUnavailable, "the worker for candidates does not answer");
    }
    const double wall = elapsed_ms(start);
    if (i < 0) continue;
    calls.wall_ms.push_back(wall);
    note_times(reply, calls);
  }
  return message_ms(calls);
}

Result<TimedCalls> time_candidate(ReferenceWorker& reference, CandidateSession& candidate, Rng& rng,
                                  const TimedProblem& problem, Evidence& evidence, double* deliver_ms) {
  TimedCalls calls;
  TimingEvidence seen;
  std::vector<double> deliveries;
  const auto timeout = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(20 + 10 * problem.seconds_per_call));
  // Of the first calls one is checked and one is watched by the profiler; neither the candidate nor its
  // process knows which.
  const auto profiled = static_cast<int>(rng.below(kMinCalls));
  const auto first_check = static_cast<int>(rng.below(kMinCalls));
  const Clock::time_point begin = Clock::now();
  for (int i = -kWarmUps; i < kMaxCalls; ++i) {
    NF_TRY(const Json staged,
           reference.ask({{"command", "stage_timed"}, {"seed", rng.next_u64() & kSeedMask}}, nullptr));
    const bool profile = i == profiled;
    Json reply;
    const Json command = {{"command", "timed"},
                          {"instance", problem.instance},
                          {"slot", slot_name(staged["inputs"])},
                          {"inputs", staged["inputs"]},
                          {"profile", profile}};
    const Clock::time_point start = Clock::now();
    if (!candidate.ask(command, {}, timeout, "timing", &reply)) return TimedCalls();
    const double wall = elapsed_ms(start);
    seen.launches.push_back(names_in(reply, "launches"));
    if (profile) {
      seen.operators = names_in(reply, "hidden_operators");
      seen.profiled = true;
    }
    if (i >= 0 && !profile) {
      calls.wall_ms.push_back(wall);
      note_times(reply, calls);
    }
    const auto num_checked = seen.checked.size();
    const bool check = i == first_check || (num_checked < kMaxChecks && rng.below(10) == 0) ||
                       (num_checked < kMinChecks && i + kMinChecks >= kMinCalls);
    if (check) {
      NF_RETURN_IF_ERROR(reference.ask({{"command", "spoil_inputs"}}, nullptr));
      const Clock::time_point asked = Clock::now();
      Json delivered;
      if (!candidate.ask({{"command", "deliver"},
                          {"output_offset", problem.output_offset},
                          {"output_bytes", problem.output_bytes}},
                         {}, timeout, "timing", &delivered)) {
        return TimedCalls();
      }
      deliveries.push_back(elapsed_ms(asked));
      Call call;
      call.kind = "timed";
      call.instance = problem.instance;
      if (check_form(delivered, problem.outputs, call)) {
        NF_TRY(
            const Json comparison,
            reference.ask({{"command", "compare"}, {"model", problem.instance}, {"spoiled", true}}, nullptr));
        judge_device_outputs(delivered, problem.outputs, comparison, call);
      }
      const bool good = call.defect == OutputDefect::kNone && call.values_right;
      seen.checked.push_back(std::move(call));
      if (!good) break;
    }
    if (seen.checked.size() >= kMinChecks && seen.profiled && known_well(calls)) break;
    if (calls.wall_ms.size() >= kMinCalls && seen.profiled && Clock::now() - begin > kMaxDuration) break;
  }
  *deliver_ms = deliveries.empty() ? 0 : median_interval(deliveries).median;
  evidence.timing = std::move(seen);
  return calls;
}

}  // namespace nemoforge::verify
