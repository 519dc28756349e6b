#include "verify/candidate_session.h"

#include <algorithm>

#include <sys/mman.h>
#include <unistd.h>

#include "verify/operator_policy.h"
#include "verify/worker_message.h"

namespace nemoforge::verify {
namespace {

using io::Json;
using std::chrono::seconds;

// Imports take 30 s alone, more on a machine that verifies several at once; everything together 300 s.
constexpr auto kStartTimeout = seconds(120);
constexpr auto kLoadTimeout = seconds(60);
constexpr auto kCompileTimeout = seconds(120);
constexpr auto kTotalTimeout = seconds(300);
constexpr int kMaxKernels = 16;
constexpr int64_t kMaxAssemblerBytes = int64_t{8} << 30;

}  // namespace

Clock::duration CandidateSession::time_left(Clock::duration at_most) const {
  return std::min<Clock::duration>(at_most, started_ + kTotalTimeout - Clock::now());
}

bool CandidateSession::has_time_for_trials() const {
  return time_left(kTotalTimeout) >= kCompileTimeout / 2;
}

void CandidateSession::begin(std::string candidate_path, WorkerProcess process) {
  path_ = std::move(candidate_path);
  process_ = std::move(process);
}

void CandidateSession::note_worker_failure(ExchangeFailure failure, const char* stage) {
  evidence_->worker_failure = failure;
  evidence_->worker_failure_stage = stage;
  evidence_->exit = process_.kill();
}

void CandidateSession::take_findings(const Json& reply) {
  for (const Json& finding : array_of(reply, "findings")) {
    evidence_->findings.push_back(
        {get<std::string>(finding, "kind", ""), get<std::string>(finding, "detail", "")});
  }
  for (const Json& patch : array_of(reply, "walk")) {
    if (!patch.is_array() || patch.size() != 2 || !patch[0].is_string() || !patch[1].is_string()) continue;
    evidence_->findings.push_back({patch[0].get<std::string>(), patch[1].get<std::string>()});
  }
}

// False where the candidate's process failed or reports an exception: both are in the evidence then.
bool CandidateSession::ask(const Json& message, std::string_view blob, Clock::duration timeout,
                           const char* stage, Json* reply, std::string* reply_blob) {
  auto answer = process_.exchange(message, blob, time_left(timeout), static_cast<size_t>(64) << 20);
  if (!answer) {
    note_worker_failure(answer.error(), stage);
    return false;
  }
  take_findings(answer->message);
  *reply = std::move(answer->message);
  if (reply_blob != nullptr) *reply_blob = std::move(answer->blob);
  const auto failure = reply->find("error");
  if (failure == reply->end() || !failure->is_object()) return true;
  evidence_->errors.push_back(
      {stage, get<std::string>(*failure, "class", ""), get<std::string>(*failure, "text", ""),
       get<std::string>(*failure, "cause_class", ""), get<std::string>(*failure, "line_text", ""),
       get(*failure, "in_kernel", false)});
  return false;
}

Status CandidateSession::greet(const Json& memory, Json& record) {
  started_ = Clock::now();
  Json roots = python_->readable_paths;
  roots.push_back(python_->scripts);
  for (const char* root : {"/usr/", "/lib", "/etc/ld.so", "/dev/null", "/dev/urandom", "/tmp/t/"})
    roots.push_back(root);
  const size_t slash = path_.rfind('/');
  const std::string module = path_.substr(slash + 1, path_.size() - slash - 4);
  // A convolution's baseline on a GPU is itself of the TF32 class.
  const bool convolves =
      std::any_of(evidence_->reference_operators.begin(), evidence_->reference_operators.end(),
                  [](const auto& entry) { return operator_class(entry.first) == "convolution"; });
  Json hello = {
      {"candidate", path_}, {"module", module}, {"trusted_roots", roots}, {"emulate_tf32", !convolves}};
  hello.update(memory);
  const auto answer = process_.exchange(hello, {}, time_left(kStartTimeout), 0);
  if (!answer) {
    process_.kill();
    return error(ErrorCode::kUnavailable,
                 "the worker for candidates does not start: " + process_.standard_error());
  }
  const bool filtered = get(answer->message, "system_call_filter", false);
  record["versions"] = answer->message.value("versions", Json::object());
  record["isolation"] = {{"namespaces", sandbox_->isolates()}, {"system_call_filter", filtered}};
  if (sandbox_->isolates() && !filtered) {
    return error(ErrorCode::kUnsupported, "the sandbox has no system-call filter");
  }
  return {};
}

bool CandidateSession::load() {
  Json reply;
  if (!ask({{"command", "examine"}}, {}, kLoadTimeout, "parse", &reply)) return false;
  evidence_->syntax_error = get<std::string>(reply, "syntax_error", "");
  for (const Json& fact : array_of(reply, "facts")) {
    evidence_->findings.push_back({get<std::string>(fact, "kind", ""), get<std::string>(fact, "detail", "")});
  }
  if (!evidence_->syntax_error.empty()) return false;
  return ask({{"command", "load"}}, {}, kLoadTimeout, "load", &reply);
}

void CandidateSession::assemble(const std::string& ptx, CompiledKernel& kernel) {
  const int fd = memfd_create("ptx", MFD_CLOEXEC);
  if (fd < 0 || write(fd, ptx.data(), ptx.size()) != static_cast<ssize_t>(ptx.size()) ||
      lseek(fd, 0, SEEK_SET) != 0) {
    kernel.error = "the assembler could not be given the kernel";
  } else {
    WorkerCommand command = sandbox_->wrap(
        {python_->ptxas, "--gpu-name=sm_90a", "--verbose", "/dev/stdin", "--output-file", "/dev/null"},
        *python_, {});
    command.stdin_fd = fd;
    command.max_cpu_seconds = 120;
    command.max_address_space_bytes = kMaxAssemblerBytes;
    auto process = WorkerProcess::start(command);
    const auto status =
        process ? process->wait(kCompileTimeout)
                : tl::expected<ExitStatus, ExchangeFailure>(tl::unexpected(ExchangeFailure::kDied));
    if (!status || status->signalled || status->code != 0) {
      kernel.error =
          "ptxas: " + (process ? process->standard_error().substr(0, 1000) : process.error().message);
    }
  }
  if (fd >= 0) close(fd);
}

void CandidateSession::compile_kernels() {
  Json reply;
  std::string blob;
  if (!ask({{"command", "compile"}, {"max_kernels", kMaxKernels}}, {}, kCompileTimeout, "compile", &reply,
           &blob)) {
    return;
  }
  size_t offset = 0;
  for (const Json& entry : array_of(reply, "kernels")) {
    CompiledKernel kernel;
    kernel.name = get<std::string>(entry, "kernel", "");
    kernel.error = get<std::string>(entry, "error", "");
    kernel.foreign_call = get<std::string>(entry, "error_class", "") == "foreign_call";
    kernel.shared_bytes = get<int64_t>(entry, "shared_bytes", 0);
    const auto bytes = get<size_t>(entry, "bytes", 0);
    if (kernel.error.empty()) {
      if (bytes == 0 || bytes > blob.size() - offset) {
        kernel.error = "no assembly came";
      } else {
        assemble(blob.substr(offset, bytes), kernel);
      }
    }
    offset += std::min(bytes, blob.size() - offset);
    evidence_->kernels.push_back(std::move(kernel));
  }
}

void CandidateSession::look_around() {
  if (evidence_->worker_failure || !evidence_->syntax_error.empty()) return;
  Json reply;
  ask({{"command", "walk"}}, {}, kLoadTimeout, "observe", &reply);
}

void CandidateSession::finish() {
  look_around();
  const bool launched = std::any_of(evidence_->calls.begin(), evidence_->calls.end(),
                                    [](const Call& call) { return call.num_launches > 0; }) ||
                        std::any_of(evidence_->errors.begin(), evidence_->errors.end(),
                                    [](const CandidateError& failure) { return failure.in_kernel; });
  if (!evidence_->worker_failure && launched) compile_kernels();
  end();
}

void CandidateSession::end() {
  if (!evidence_->worker_failure) process_.kill();
  evidence_->standard_output = process_.standard_output();
  evidence_->standard_error = process_.standard_error();
}

}  // namespace nemoforge::verify
