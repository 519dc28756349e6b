#include "verify/python_environment.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "io/json.h"
#include "verify/worker_process.h"

namespace nemoforge::verify {
namespace {

namespace fs = std::filesystem;

// Finds the packages without importing them: an import of torch takes seconds.
constexpr const char* kProbe = R"py(
import importlib.metadata, importlib.util, json, os, sys, sysconfig
def version(name):
    return importlib.metadata.version(name) if importlib.util.find_spec(name) else ""
triton = importlib.util.find_spec("triton")
folder = os.path.dirname(triton.origin) if triton else ""
paths = {sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)), sysconfig.get_paths()["stdlib"],
         sysconfig.get_paths()["purelib"]}
print(json.dumps({"torch": version("torch"), "triton": version("triton"), "paths": sorted(paths),
                  "ptxas": os.path.join(folder, "backends", "nvidia", "bin", "ptxas")}))
)py";

constexpr const char* kHint =
    "set NEMOFORGE_PYTHON to a Python that has them, or run ./quickstart, which makes .venv";

std::optional<std::string> environment_value(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

// The folder of the program and those above it, then the source tree that it was built from.
std::vector<fs::path> search_roots() {
  std::vector<fs::path> roots;
  std::error_code failure;
  fs::path folder = fs::read_symlink("/proc/self/exe", failure).parent_path();
  for (int i = 0; i < 5 && folder.has_relative_path(); ++i, folder = folder.parent_path()) {
    roots.push_back(folder);
    roots.push_back(folder / "share" / "nemoforge");
  }
  roots.emplace_back(NEMOFORGE_PROJECT_SOURCE_DIR);
  return roots;
}

std::optional<std::string> first_existing(const std::vector<fs::path>& roots, const fs::path& relative) {
  for (const fs::path& root : roots) {
    std::error_code failure;
    if (fs::exists(root / relative, failure)) return (root / relative).string();
  }
  return std::nullopt;
}

Result<io::Json> probe(const std::string& interpreter) {
  WorkerCommand command;
  command.argv = {interpreter, "-I", "-c", kProbe};
  command.environment = {"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"};
  NF_TRY(WorkerProcess process, WorkerProcess::start(command));
  const auto status = process.wait(std::chrono::seconds(60));
  const auto answer = io::parse_json(process.standard_output());
  if (!status || status->code != 0 || !answer) {
    return error(ErrorCode::kNotFound,
                 interpreter + " does not work as a Python: " + process.standard_error(), kHint);
  }
  return *answer;
}

}  // namespace

Result<PythonEnvironment> find_python_environment() {
  PythonEnvironment found;
  const std::vector<fs::path> roots = search_roots();
  const auto interpreter = environment_value("NEMOFORGE_PYTHON");
  const auto venv = first_existing(roots, ".venv/bin/python");
  if (!interpreter && !venv) {
    return error(ErrorCode::kNotFound,
                 "verification needs a Python with torch and triton, and there is no .venv", kHint);
  }
  found.interpreter = interpreter ? *interpreter : *venv;
  if (access(found.interpreter.c_str(), X_OK) != 0) {
    return error(ErrorCode::kNotFound, found.interpreter + " is not an executable Python", kHint);
  }
  const auto scripts = environment_value("NEMOFORGE_VERIFIER_DIR");
  const auto beside = first_existing(roots, "verifier/candidate_worker.py");
  if (!scripts && !beside) {
    return error(ErrorCode::kNotFound, "the folder verifier/ with the worker scripts is missing",
                 "set NEMOFORGE_VERIFIER_DIR");
  }
  found.scripts = fs::absolute(scripts ? *scripts : fs::path(*beside).parent_path().string()).string();
  NF_TRY(const io::Json facts, probe(found.interpreter));
  found.torch_version = facts.value("torch", "");
  found.triton_version = facts.value("triton", "");
  found.ptxas = facts.value("ptxas", "");
  for (const auto& path : facts["paths"]) found.readable_paths.push_back(path.get<std::string>());
  for (const auto& [name, version] :
       {std::pair{"torch", found.torch_version}, std::pair{"triton", found.triton_version}}) {
    if (version.empty()) {
      return error(ErrorCode::kNotFound, found.interpreter + " has no " + std::string(name), kHint);
    }
  }
  return found;
}

}  // namespace nemoforge::verify
