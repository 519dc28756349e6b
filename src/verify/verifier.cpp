#include "verify/verifier.h"

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "verify/device_judge.h"
#include "verify/judge.h"

namespace nemoforge::verify {
namespace {

using io::Json;

constexpr int kWorkersPerGpu = 3;
constexpr size_t kMaxCandidateBytes = size_t{200} << 10;

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
  Verifier verifier;
  verifier.options_ = options;
  if (options.sandbox) {
    NF_TRY(verifier.sandbox_, Sandbox::find());
  }
  NF_TRY(verifier.python_, find_python_environment());
  if (options.device == Device::kCuda) {
    NF_TRY(const std::vector<GpuInfo> found, find_gpus(verifier.python_));
    for (const GpuInfo& info : found) verifier.gpus_.push_back(std::make_shared<GpuDevice>(info));
  }
  if (options.num_workers == 0) {
    verifier.options_.num_workers = verifier.gpus_.empty()
                                        ? static_cast<int>(std::max(1U, std::thread::hardware_concurrency()))
                                        : kWorkersPerGpu * static_cast<int>(verifier.gpus_.size());
  }
  if (options.sandbox) NF_RETURN_IF_ERROR(verifier.sandbox_.check_filter(verifier.python_));
  return verifier;
}

Result<Verification> Verifier::verify(const std::string& problem, const std::string& candidate,
                                      const Json& overrides) const {
  return open_session()->verify(problem, candidate, overrides, false);
}

Result<Verification> Verifier::verify(Workbench& workbench, GpuDevice* gpu, const std::string& problem,
                                      const std::string& candidate, const Json& overrides,
                                      bool another_follows) const {
  Verification verification;
  verification.started_ms = wall_clock_ms();
  verification.sandboxed = sandbox_.isolates();
  verification.judgement = judge_text(candidate);
  Json record = Json::object();
  if (verification.judgement.name == "not_verified") {
    NF_TRY(JudgeReport report, gpu != nullptr ? judge_on_gpu(python_, sandbox_, workbench, *gpu,
                                                             {.time_compiled = options_.time_compiled},
                                                             problem, candidate, overrides, another_follows)
                                              : judge_candidate(python_, sandbox_, workbench, problem,
                                                                candidate, overrides, another_follows));
    verification.judgement = std::move(report.judgement);
    record = std::move(report.record);
  }
  verification.finished_ms = wall_clock_ms();
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
  if (const auto speedup = summary.find("speedup"); speedup != summary.end() && speedup->is_number()) {
    verification.speedup = speedup->get<double>();
  }
  verification.record_json = io::dump_json(summary);
  return verification;
}

namespace {

class LocalSession : public BackendSession {
 public:
  LocalSession(const Verifier& verifier, const PythonEnvironment& python, const Sandbox& sandbox,
               std::shared_ptr<GpuDevice> gpu)
      : verifier_(&verifier),
        gpu_(std::move(gpu)),
        workbench_(python, sandbox, SizeLimits::of_this_machine(verifier.num_sessions()),
                   gpu_ ? SandboxGpu(gpu_->info.index) : SandboxGpu()) {}
  Result<Verification> verify(const std::string& problem, const std::string& candidate, const Json& overrides,
                              bool another_follows) override {
    return verifier_->verify(workbench_, gpu_.get(), problem, candidate, overrides, another_follows);
  }

 private:
  const Verifier* verifier_;
  std::shared_ptr<GpuDevice> gpu_;
  Workbench workbench_;
};

}  // namespace

std::unique_ptr<BackendSession> Verifier::open_session() const {
  std::shared_ptr<GpuDevice> gpu;
  if (!gpus_.empty()) gpu = gpus_[static_cast<size_t>((*num_opened_)++) % gpus_.size()];
  return std::make_unique<LocalSession>(*this, python_, sandbox_, std::move(gpu));
}

}  // namespace nemoforge::verify
