#include "verify/verifier.h"

#include <memory>
#include <utility>

#include <nlohmann/json.hpp>

#include "verify/judge.h"

namespace nemoforge::verify {
namespace {

using io::Json;

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
  verification.started_ms = wall_clock_ms();
  verification.sandboxed = sandbox_.isolates();
  verification.judgement = judge_text(candidate);
  Json record = Json::object();
  if (verification.judgement.name == "not_verified") {
    NF_TRY(JudgeReport report,
           judge_candidate(python_, sandbox_, workbench, problem, candidate, overrides, another_follows));
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
  verification.record_json = io::dump_json(summary);
  return verification;
}

namespace {

class LocalSession : public BackendSession {
 public:
  LocalSession(const Verifier& verifier, const PythonEnvironment& python, const Sandbox& sandbox)
      : verifier_(&verifier),
        workbench_(python, sandbox, SizeLimits::of_this_machine(verifier.num_sessions())) {}
  Result<Verification> verify(const std::string& problem, const std::string& candidate, const Json& overrides,
                              bool another_follows) override {
    return verifier_->verify(workbench_, problem, candidate, overrides, another_follows);
  }

 private:
  const Verifier* verifier_;
  Workbench workbench_;
};

}  // namespace

std::unique_ptr<BackendSession> Verifier::open_session() const {
  return std::make_unique<LocalSession>(*this, python_, sandbox_);
}

}  // namespace nemoforge::verify
