#include "verify/backend.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace nemoforge::verify {

using io::Json;

int64_t wall_clock_ms() {
  using std::chrono::duration_cast;
  using std::chrono::milliseconds;
  return duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Verification not_verified(const std::string& stage, const std::string& detail, const std::string& device,
                          int64_t started_ms) {
  Verification verification;
  verification.judgement.stage = stage;
  verification.judgement.detail = detail;
  verification.started_ms = started_ms;
  verification.finished_ms = wall_clock_ms();
  verification.record_json = io::dump_json({{"verdict", verification.judgement.name},
                                            {"correct", false},
                                            {"stage", stage},
                                            {"detail", detail},
                                            {"device", device},
                                            {"wall_ms", verification.finished_ms - started_ms}});
  return verification;
}

Status Backend::verify_run(store::RunStore& store,
                           const std::function<bool(const Progress&)>& on_verdict) const {
  NF_TRY(const std::vector<int64_t> ids, store.unverified_traces(device_name()));
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  Status outcome;
  int64_t num_done = 0;
  bool stop = false;

  const auto verify_trace = [&](BackendSession& session, size_t index) -> Status {
    const int64_t id = ids[index];
    NF_TRY(const std::optional<store::Trace> trace, store.trace(id));
    if (!trace) return {};
    NF_TRY(const std::optional<store::Problem> problem, store.problem(trace->problem_id));
    if (!problem) return error(ErrorCode::kInvalidData, "trace of an unknown problem " + trace->problem_id);
    NF_TRY(const Json overrides, io::parse_json(problem->overrides_json));
    const bool another_follows = next < ids.size();
    NF_TRY(const Verification verification,
           session.verify(problem->source, trace->code, overrides, another_follows));
    store::Verdict verdict;
    verdict.trace_id = id;
    verdict.verdict = verification.judgement.name;
    verdict.family = verification.judgement.family();
    verdict.stage = verification.judgement.stage;
    verdict.correct = verification.judgement.correct();
    verdict.speedup = verification.speedup;
    verdict.device = device_name();
    verdict.sandboxed = verification.sandboxed;
    verdict.record_json = verification.record_json;
    verdict.started_ms = verification.started_ms;
    verdict.finished_ms = verification.finished_ms;
    NF_RETURN_IF_ERROR(store.add_verdict(verdict));
    const std::scoped_lock lock(mutex);
    ++num_done;
    if (!on_verdict({num_done, static_cast<int64_t>(ids.size()), &*trace, &verification})) stop = true;
    return {};
  };
  const auto work = [&] {
    const std::unique_ptr<BackendSession> session = open_session();
    while (true) {
      const size_t index = next++;
      if (index >= ids.size()) return;
      {
        const std::scoped_lock lock(mutex);
        if (stop || !outcome) return;
      }
      if (Status status = verify_trace(*session, index); !status) {
        const std::scoped_lock lock(mutex);
        outcome = std::move(status);
        return;
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < num_sessions(); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return outcome;
}

}  // namespace nemoforge::verify
