#include "verify/verifier.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "verify/judge.h"

namespace nemoforge::verify {
namespace {

using io::Json;

constexpr size_t kMaxCandidateBytes = size_t{200} << 10;

int64_t now_ms() {
  using std::chrono::duration_cast;
  using std::chrono::milliseconds;
  return duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Judgement judge_text(const std::string& candidate) {
  Judgement judgement;
  judgement.stage = "intake";
  if (candidate.find_first_not_of(" \t\r\n") == std::string::npos) {
    judgement.name = "no_code";
    judgement.detail = "there is no code";
  } else if (candidate.size() > kMaxCandidateBytes) {
    judgement.name = "compile_error";
    judgement.detail = "the code has " + std::to_string(candidate.size()) + " bytes, more than " +
                       std::to_string(kMaxCandidateBytes);
  }
  return judgement;
}

}  // namespace

Result<Verifier> Verifier::create(const Options& options) {
  if (options.device == Device::kCuda) {
    return error(
        ErrorCode::kUnsupported,
        "--device cuda needs an NVIDIA GPU and a build of nemoforge that verifies on it; this one verifies "
        "under Triton's interpreter only",
        "use --device interpret");
  }
  Verifier verifier;
  verifier.options_ = options;
  if (options.sandbox) {
    NF_TRY(verifier.sandbox_, Sandbox::find());
  }
  NF_TRY(verifier.python_, find_python_environment());
  if (options.sandbox) NF_RETURN_IF_ERROR(verifier.sandbox_.check_filter(verifier.python_));
  return verifier;
}

Result<Verification> Verifier::verify(const std::string& problem, const std::string& candidate,
                                      const Json& overrides) const {
  Workbench workbench(python_, sandbox_);
  return verify(workbench, problem, candidate, overrides, false);
}

Result<Verification> Verifier::verify(Workbench& workbench, const std::string& problem,
                                      const std::string& candidate, const Json& overrides,
                                      bool another_follows) const {
  Verification verification;
  verification.started_ms = now_ms();
  verification.judgement = judge_text(candidate);
  Json record = Json::object();
  if (verification.judgement.name == "not_verified") {
    NF_TRY(JudgeReport report,
           judge_candidate(python_, sandbox_, workbench, problem, candidate, overrides, another_follows));
    verification.judgement = std::move(report.judgement);
    record = std::move(report.record);
  }
  verification.finished_ms = now_ms();
  const Judgement& judgement = verification.judgement;
  Json summary = {{"verdict", judgement.name},
                  {"family", judgement.family().empty() ? Json() : Json(judgement.family())},
                  {"correct", judgement.correct()},
                  {"speedup", nullptr},
                  {"stage", judgement.stage},
                  {"detail", judgement.detail},
                  {"tags", judgement.tags},
                  {"findings", Json::array()},
                  {"device", device_name()},
                  {"sandboxed", sandbox_.isolates()},
                  {"overrides", overrides},
                  {"verifier", options_.version},
                  {"wall_ms", verification.finished_ms - verification.started_ms}};
  for (const Finding& finding : judgement.findings) {
    summary["findings"].push_back({{"kind", finding.kind}, {"detail", finding.detail}});
  }
  summary.update(record);
  verification.record_json = io::dump_json(summary);
  return verification;
}

Status Verifier::verify_run(store::RunStore& store,
                            const std::function<bool(const Progress&)>& on_verdict) const {
  NF_TRY(const std::vector<int64_t> ids, store.unverified_traces(device_name()));
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  Status outcome;
  int64_t num_done = 0;
  bool stop = false;

  const auto verify_trace = [&](Workbench& workbench, size_t index) -> Status {
    const int64_t id = ids[index];
    NF_TRY(const std::optional<store::Trace> trace, store.trace(id));
    if (!trace) return {};
    NF_TRY(const std::optional<store::Problem> problem, store.problem(trace->problem_id));
    if (!problem) return error(ErrorCode::kInvalidData, "trace of an unknown problem " + trace->problem_id);
    NF_TRY(const Json overrides, io::parse_json(problem->overrides_json));
    const bool another_follows = next < ids.size();
    NF_TRY(const Verification verification,
           verify(workbench, problem->source, trace->code, overrides, another_follows));
    store::Verdict verdict;
    verdict.trace_id = id;
    verdict.verdict = verification.judgement.name;
    verdict.family = verification.judgement.family();
    verdict.stage = verification.judgement.stage;
    verdict.correct = verification.judgement.correct();
    verdict.device = device_name();
    verdict.sandboxed = sandbox_.isolates();
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
    Workbench workbench(python_, sandbox_);
    while (true) {
      const size_t index = next++;
      if (index >= ids.size()) return;
      {
        const std::scoped_lock lock(mutex);
        if (stop || !outcome) return;
      }
      if (Status status = verify_trace(workbench, index); !status) {
        const std::scoped_lock lock(mutex);
        outcome = std::move(status);
        return;
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < options_.num_workers; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return outcome;
}

}  // namespace nemoforge::verify
