#include "verify/sandbox.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>

#include <unistd.h>

namespace nemoforge::verify {
namespace {

constexpr const char* kTmpBytes = "1073741824";
// Libraries find the folder that they look for; what is stored there counts in no limit on memory.
constexpr const char* kSharedMemoryBytes = "65536";
constexpr const char* kHint =
    "or pass --no-sandbox if this machine holds nothing that a candidate may not see";

// The nodes of the GPU's driver that computing needs: not those of profilers, of other GPUs or of partitions.
std::vector<std::string> device_nodes(int gpu) {
  return {"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia" + std::to_string(gpu)};
}

// The start of every command line: namespaces, an empty root, the system read-only.
std::vector<std::string> base_arguments(const std::string& bwrap, SandboxGpu gpu) {
  std::vector<std::string> arguments = {bwrap,
                                        "--unshare-user",
                                        "--unshare-ipc",
                                        "--unshare-pid",
                                        "--unshare-net",
                                        "--unshare-uts",
                                        "--unshare-cgroup-try",
                                        "--die-with-parent",
                                        "--new-session",
                                        "--uid",
                                        "65534",
                                        "--gid",
                                        "65534",
                                        "--hostname",
                                        "sandbox",
                                        "--cap-drop",
                                        "ALL",
                                        "--clearenv",
                                        "--size",
                                        kTmpBytes,
                                        "--tmpfs",
                                        "/tmp",
                                        "--ro-bind",
                                        "/usr",
                                        "/usr",
                                        "--proc",
                                        "/proc",
                                        "--dev",
                                        "/dev",
                                        "--size",
                                        kSharedMemoryBytes,
                                        "--tmpfs",
                                        "/dev/shm"};
  if (gpu) {
    for (const std::string& node : device_nodes(*gpu)) {
      arguments.insert(arguments.end(), {"--dev-bind", node, node});
    }
  }
  arguments.insert(arguments.end(), {"--remount-ro", "/dev"});
  for (const char* path : {"/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives"}) {
    arguments.insert(arguments.end(), {"--ro-bind-try", path, path});
  }
  return arguments;
}

// Names and values that torch and triton need; no seed, no path of the run.
std::vector<std::string> environment(SandboxGpu gpu) {
  std::vector<std::string> variables = {"PATH=/usr/bin:/bin",
                                        "HOME=/tmp",
                                        "TMPDIR=/tmp",
                                        "LC_ALL=C.UTF-8",
                                        "OMP_NUM_THREADS=1",
                                        "OPENBLAS_NUM_THREADS=1",
                                        "MKL_NUM_THREADS=1",
                                        "TRITON_CACHE_DIR=/tmp/t",
                                        "PYTHONNOUSERSITE=1",
                                        "PYTHONDONTWRITEBYTECODE=1",
                                        "TORCH_CPP_LOG_LEVEL=FATAL"};
  if (!gpu) {
    variables.insert(variables.end(), {"TRITON_INTERPRET=1", "CUDA_VISIBLE_DEVICES="});
    return variables;
  }
  variables.push_back("CUDA_DEVICE_ORDER=PCI_BUS_ID");
  variables.push_back("CUDA_VISIBLE_DEVICES=" + std::to_string(*gpu));
  const char* libraries = std::getenv("LD_LIBRARY_PATH");
  if (libraries != nullptr) variables.push_back(std::string("LD_LIBRARY_PATH=") + libraries);
  return variables;
}

}  // namespace

Result<Sandbox> Sandbox::find() {
  Sandbox sandbox;
  for (const char* path : {"/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"}) {
    if (access(path, X_OK) == 0) sandbox.bwrap_ = path;
  }
  if (sandbox.bwrap_.empty()) {
    return error(ErrorCode::kUnsupported,
                 "candidates run in a sandbox, and bubblewrap (bwrap) is not installed",
                 std::string("apt install bubblewrap, ") + kHint);
  }
  WorkerCommand command;
  command.argv = base_arguments(sandbox.bwrap_, {});
  command.argv.insert(command.argv.end(), {"--", "/usr/bin/true"});
  command.environment = environment({});
  NF_TRY(WorkerProcess process, WorkerProcess::start(command));
  const auto status = process.wait(std::chrono::seconds(20));
  if (!status || status->signalled || status->code != 0) {
    return error(
        ErrorCode::kUnsupported,
        "candidates run in a sandbox, and bubblewrap cannot make one here: " + process.standard_error(),
        std::string("allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
                    "kernel.apparmor_restrict_unprivileged_userns=0), ") +
            kHint);
  }
  return sandbox;
}

Status Sandbox::check_filter(const PythonEnvironment& python) const {
  NF_TRY(WorkerProcess process,
         WorkerProcess::start(
             wrap({python.interpreter, "-E", "-s", python.scripts + "/seccomp_filter.py"}, python, {})));
  const auto status = process.wait(std::chrono::seconds(60));
  if (status && !status->signalled && status->code == 0) return {};
  return error(
      ErrorCode::kUnsupported,
      "candidates run under a system-call filter, and there is none here: " + process.standard_error(),
      std::string("verify on an x86-64 machine whose kernel has seccomp filters, ") + kHint);
}

WorkerCommand Sandbox::wrap(const std::vector<std::string>& argv, const PythonEnvironment& python,
                            const std::vector<ReadableFile>& files, SandboxGpu gpu) const {
  WorkerCommand command;
  command.environment = environment(gpu);
  if (!isolates()) {
    command.argv = argv;
    return command;
  }
  command.argv = base_arguments(bwrap_, gpu);
  const auto readable = [&](const std::string& host, const std::string& inside) {
    command.argv.insert(command.argv.end(), {"--ro-bind", host, inside});
  };
  for (const std::string& path : python.readable_paths) {
    if (!path.starts_with("/usr/")) readable(path, path);
  }
  readable(python.scripts, python.scripts);
  for (const ReadableFile& file : files) readable(file.host_path, file.path);
  for (const std::string& variable : command.environment) {
    const size_t equals = variable.find('=');
    command.argv.insert(command.argv.end(),
                        {"--setenv", variable.substr(0, equals), variable.substr(equals + 1)});
  }
  command.argv.insert(command.argv.end(), {"--remount-ro", "/", "--chdir", "/tmp", "--"});
  command.argv.insert(command.argv.end(), argv.begin(), argv.end());
  return command;
}

}  // namespace nemoforge::verify
