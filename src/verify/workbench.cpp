#include "verify/workbench.h"

#include <filesystem>
#include <fstream>
#include <utility>

#include <sys/stat.h>

#include "io/file.h"
#include "verify/random_name.h"

namespace nemoforge::verify {
namespace {

constexpr int64_t kMaxCpuSeconds = 400;
constexpr int64_t kMaxAddressSpace = int64_t{12} << 30;
constexpr int64_t kMaxData = int64_t{24} << 30;

// In place: the sandbox has mounted this very file.
Status write_in_place(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file << text;
  file.flush();
  if (!file) return error(ErrorCode::kIo, "cannot write " + path);
  return {};
}

}  // namespace

Status Workbench::make_folder() {
  if (folder_.path().empty()) {
    NF_TRY(folder_, TemporaryFolder::create());
  }
  return {};
}

Status Workbench::start_candidate_process() {
  NF_RETURN_IF_ERROR(make_folder());
  CandidateProcess candidate;
  // Of the judge's own choosing, so that a candidate cannot have planted a module of this name.
  candidate.path = folder_.path("candidate_" + random_name() + ".py");
  NF_RETURN_IF_ERROR(io::write_file_atomically(candidate.path, ""));
  chmod(candidate.path.c_str(), 0644);
  const char* script = gpu_ ? "/device_candidate.py" : "/candidate_worker.py";
  WorkerCommand command = sandbox_->wrap({python_->interpreter, "-u", "-E", "-s", python_->scripts + script},
                                         *python_, {{candidate.path, candidate.path}}, gpu_);
  if (gpu_) {
    // A GPU's driver reserves more addresses than any limit on them would leave.
    command.max_data_bytes = kMaxData;
  } else {
    NF_TRY(candidate.arena, Arena::create());
    command.shared_fd = candidate.arena.fd();
    command.max_address_space_bytes = kMaxAddressSpace;
  }
  command.max_cpu_seconds = kMaxCpuSeconds;
  NF_TRY(candidate.process, WorkerProcess::start(command));
  waiting_ = std::move(candidate);
  return {};
}

Status Workbench::warm_up() {
  if (!waiting_) NF_RETURN_IF_ERROR(start_candidate_process());
  return reference().transform([](ReferenceWorker*) {});
}

Result<ReferenceWorker*> Workbench::reference() {
  if (!reference_.running()) {
    NF_RETURN_IF_ERROR(make_folder());
    NF_TRY(reference_,
           ReferenceWorker::start(*python_, {.gpu = gpu_, .cache_folder = folder_.path("compiled")}));
  }
  return &reference_;
}

Result<CandidateProcess> Workbench::take_candidate_process(const std::string& text) {
  if (!waiting_) NF_RETURN_IF_ERROR(start_candidate_process());
  CandidateProcess candidate = std::move(*waiting_);
  waiting_.reset();
  NF_RETURN_IF_ERROR(write_in_place(candidate.path, text));
  return candidate;
}

Result<std::string> Workbench::problem_file(const std::string& text) {
  NF_RETURN_IF_ERROR(make_folder());
  if (problem_path_.empty() || problem_text_ != text) {
    // Another name each time: what the reference has loaded may still look at its own file.
    problem_path_ = folder_.path("problem_" + random_name() + ".py");
    NF_RETURN_IF_ERROR(io::write_file_atomically(problem_path_, text));
    problem_text_ = text;
  }
  return problem_path_;
}

}  // namespace nemoforge::verify
