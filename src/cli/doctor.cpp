// nemoforge doctor: what this machine has, what works with it, and how to fix the rest.
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/standard_input.h"
#include "io/json.h"
#include "verify/python_environment.h"
#include "verify/sandbox.h"

namespace nemoforge::cli {
namespace {

struct DoctorConfig {
  bool json = false;
};

enum class Health { kGood, kAbsent, kBroken };

// One line of the report.
struct Finding {
  std::string part;
  Health health = Health::kGood;
  std::string found;    // what is there
  std::string enables;  // what works with it, or what does not without it
  std::string fix;      // how to get it; empty when there is nothing to do
};

struct CommandOutput {
  int exit_code = -1;
  std::string text;  // standard output and error, without the last newline
};

CommandOutput run_shell(const std::string& command) {
  CommandOutput output;
  FILE* pipe = ::popen(("timeout 60 " + command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return output;
  char buffer[4096];
  while (const size_t count = std::fread(buffer, 1, sizeof(buffer), pipe)) output.text.append(buffer, count);
  const int status = ::pclose(pipe);
  output.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  while (!output.text.empty() && output.text.back() == '\n') output.text.pop_back();
  return output;
}

// The value of "key : value" in the first matching line of a /proc file.
std::string proc_value(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

Finding examine_processor() {
  const std::string flags = " " + proc_value("/proc/cpuinfo", "flags") + " ";
  std::string simd;
  for (const char* flag : {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}) {
    if (flags.find(" " + std::string(flag) + " ") != std::string::npos) simd += std::string(" ") + flag;
  }
  return {"processor", Health::kGood,
          fmt::format("{}, {} cores,{}", proc_value("/proc/cpuinfo", "model name"),
                      std::thread::hardware_concurrency(), simd.empty() ? " baseline SIMD" : simd),
          "CPU backend", ""};
}

Finding examine_memory() {
  const long long total_kib = std::atoll(proc_value("/proc/meminfo", "MemTotal").c_str());
  const long long available_kib = std::atoll(proc_value("/proc/meminfo", "MemAvailable").c_str());
  struct statvfs disk {};
  const double free_gb = ::statvfs(".", &disk) == 0
                             ? static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize) / 1e9
                             : 0;
  return {"memory", Health::kGood,
          fmt::format("{:.1f} of {:.1f} GiB available; {:.0f} GB of disk free here",
                      static_cast<double>(available_kib) / 1048576, static_cast<double>(total_kib) / 1048576,
                      free_gb),
          "a bf16 Nemotron-3-Nano needs 63 GB, the demo checkpoint 0.1", ""};
}

Finding examine_gpu() {
  const CommandOutput smi =
      run_shell("nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv,noheader");
  if (smi.exit_code != 0) {
    return {"GPU", Health::kAbsent, "no working NVIDIA driver",
            "everything runs on the CPU; kernels are verified in Triton's interpreter",
            "for a GPU: install NVIDIA's driver (580 or newer)"};
  }
  return {"GPU", Health::kGood, smi.text, "verification on real Triton (torch must see it)", ""};
}

Finding examine_cuda_toolkit() {
  const CommandOutput nvcc = run_shell("nvcc --version");
  if (nvcc.exit_code != 0) {
    return {"CUDA toolkit", Health::kAbsent, "no nvcc", "only needed to build the CUDA backend",
            "install the CUDA 13 toolkit for `cmake --preset cuda`"};
  }
  const size_t release = nvcc.text.find("release ");
  return {"CUDA toolkit", Health::kGood,
          release == std::string::npos ? "nvcc"
                                       : nvcc.text.substr(release, nvcc.text.find(',', release) - release),
          "cmake --preset cuda", ""};
}

Finding examine_python() {
  const auto environment = verify::find_python_environment();
  if (!environment) {
    return {"Python", Health::kBroken, environment.error().message, "without it kernels cannot be verified",
            environment.error().hint};
  }
  return {"Python", Health::kGood,
          fmt::format("{} with torch {}, triton {}", environment->interpreter, environment->torch_version,
                      environment->triton_version),
          "the verifier's harness", ""};
}

Finding examine_sandbox() {
  const auto broken = [](std::string found, const Error& failure) -> Finding {
    return {"sandbox", Health::kBroken, std::move(found) + failure.message,
            "candidate kernels are refused, unless --no-sandbox is given", failure.hint};
  };
  const auto sandbox = verify::Sandbox::find();
  if (!sandbox) return broken("", sandbox.error());
  const std::string version = run_shell("bwrap --version").text + ", namespaces work";
  const auto python = verify::find_python_environment();
  if (!python) return broken(version + "; the system-call filter cannot be tried: ", python.error());
  if (const Status filter = sandbox->check_filter(*python); !filter) {
    return broken(version + "; ", filter.error());
  }
  return {"sandbox", Health::kGood, version + ", system-call filter works",
          "candidate kernels run without network, on a read-only system", ""};
}

std::string_view health_word(Health health) {
  switch (health) {
    case Health::kGood:
      return "ok";
    case Health::kAbsent:
      return "absent";
    case Health::kBroken:
      return "BROKEN";
  }
  return "";
}

Status run_doctor(const DoctorConfig& config) {
  const std::vector<Finding> findings = {examine_processor(),    examine_memory(), examine_gpu(),
                                         examine_cuda_toolkit(), examine_python(), examine_sandbox()};
  bool broken = false;
  std::string text;
  io::Json report = io::Json::array();
  for (const Finding& finding : findings) {
    broken = broken || finding.health == Health::kBroken;
    if (config.json) {
      report.push_back({{"part", finding.part},
                        {"health", health_word(finding.health)},
                        {"found", finding.found},
                        {"enables", finding.enables},
                        {"fix", finding.fix}});
      continue;
    }
    text += fmt::format("{:<13} {:<7} {}\n{:<22}{}\n", finding.part, health_word(finding.health),
                        finding.found, "", finding.enables);
    if (!finding.fix.empty()) text += fmt::format("{:<22}fix: {}\n", "", finding.fix);
  }
  NF_RETURN_IF_ERROR(write_standard_output(config.json ? io::dump_json(report) + "\n" : text));
  if (broken)
    return error(ErrorCode::kUnavailable,
                 "a part that nemoforge needs is broken; the report above says how to fix it");
  return {};
}

}  // namespace

void add_doctor_command(CLI::App& app, Outcome& outcome) {
  auto config = std::make_shared<DoctorConfig>();
  CLI::App* command =
      add_command(app, outcome, "doctor", "Check this machine and say how to fix what is missing",
                  [config] { return run_doctor(*config); });
  command->add_flag("--json", config->json, "Print one JSON array instead of the table");
}

}  // namespace nemoforge::cli
