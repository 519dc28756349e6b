// nemoforge verify: one candidate against one problem, or every unverified trace of a run.
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "base/progress.h"
#include "cli/command.h"
#include "io/file.h"
#include "io/json.h"
#include "store/run_store.h"
#include "verify/verifier.h"
#include "verify_remote/remote_verifier.h"

namespace nemoforge::cli {
namespace {

enum class BackendKind { kInterpret, kCuda, kHttp };

struct VerifyConfig {
  std::string run;
  std::string problem;
  std::string candidate;
  std::string overrides;
  verify::Options options;
  BackendKind backend = BackendKind::kInterpret;
  verify_remote::RemoteVerifierConfig remote;
  std::string key_file;
  bool workers_given = false;
  bool json = false;
};

std::string one_line(const verify::Judgement& judgement) {
  std::string text = judgement.name;
  if (!judgement.detail.empty()) text += ": " + judgement.detail.substr(0, judgement.detail.find('\n'));
  for (const std::string& tag : judgement.tags) text += " [" + tag + "]";
  return text;
}

Status verify_one(const VerifyConfig& config, const verify::Backend& backend) {
  NF_TRY(const std::string problem, io::read_file(config.problem));
  NF_TRY(const std::string candidate, io::read_file(config.candidate));
  io::Json overrides = io::Json::object();
  if (!config.overrides.empty()) {
    NF_TRY(overrides, io::read_json_file(config.overrides));
    if (!overrides.is_object()) {
      return error(ErrorCode::kInvalidArgument,
                   config.overrides + " is not a JSON object of module constants");
    }
  }
  NF_TRY(const verify::Verification verification,
         backend.open_session()->verify(problem, candidate, overrides, false));
  std::cout << (config.json ? verification.record_json : one_line(verification.judgement)) << std::endl;
  return {};
}

// One line a trace: problem, sample, tokens, tokens/s (of the trace's own time in the engine), newest
// verdict.
Status print_table(const store::RunStore& store) {
  std::cout << fmt::format("\n{:<28} {:>6} {:>7} {:>9}  {}\n", "problem", "sample", "tokens", "tokens/s",
                           "verdict");
  return store.for_each_trace([](store::JudgedTrace&& judged) {
    const store::Trace& trace = judged.trace;
    const double seconds = static_cast<double>(trace.finished_ms - trace.started_ms) / 1e3;
    std::cout << fmt::format("{:<28} {:>6} {:>7} {:>9.0f}  {}\n", trace.problem_id, trace.sample_idx,
                             trace.num_completion_tokens,
                             seconds > 0 ? static_cast<double>(trace.num_completion_tokens) / seconds : 0.0,
                             judged.verdict ? judged.verdict->verdict : "-");
    return true;
  });
}

Status verify_traces(const VerifyConfig& config, const verify::Backend& backend) {
  install_interrupt_handler();
  NF_TRY(store::RunStore store,
         store::RunStore::open(config.run, store::Access::kVerify, {"verify", config.options.version, "{}"}));
  NF_TRY(const auto unverified, store.unverified_traces(backend.device_name()));
  {
    Progress progress("verify", "traces", static_cast<int64_t>(unverified.size()));
    NF_RETURN_IF_ERROR(backend.verify_run(store, [&](const verify::Backend::Progress& done) {
      progress.finish_item();
      if (config.json) {
        std::cout << done.verification->record_json << std::endl;
      } else {
        std::cout << done.trace->problem_id << " sample " << done.trace->sample_idx << ": "
                  << one_line(done.verification->judgement) << std::endl;
      }
      return !interrupted();
    }));
  }
  NF_TRY(const store::Summary summary, store.summary());
  if (!config.json) {
    NF_RETURN_IF_ERROR(print_table(store));
    std::cout << '\n'
              << summary.num_correct << " of " << summary.num_verified << " verified traces are correct, "
              << summary.num_problems_solved << " of " << summary.num_problems << " problems solved\n";
    for (const auto& [verdict, count] : summary.verdicts)
      std::cout << "  " << verdict << ": " << count << '\n';
  }
  if (interrupted())
    return error(ErrorCode::kCancelled, "interrupted; run the same command again to continue");
  return {};
}

// The key of --backend-key-file, or of the environment.
Result<std::string> backend_key(const VerifyConfig& config) {
  if (!config.key_file.empty()) {
    NF_TRY(std::string key, io::read_file(config.key_file));
    const size_t end = key.find_last_not_of(" \t\r\n");
    key.resize(end == std::string::npos ? 0 : end + 1);
    if (key.empty()) return error(ErrorCode::kInvalidArgument, config.key_file + " holds no key");
    return key;
  }
  const char* key = std::getenv("NEMOFORGE_VERIFY_API_KEY");
  return std::string(key == nullptr ? "" : key);
}

Result<std::unique_ptr<verify::Backend>> open_backend(const VerifyConfig& config) {
  if (config.backend != BackendKind::kHttp) {
    verify::Options options = config.options;
    if (config.backend == BackendKind::kCuda) options.device = verify::Device::kCuda;
    if (!config.workers_given) options.num_workers = 0;
    NF_TRY(verify::Verifier verifier, verify::Verifier::create(options));
    return std::unique_ptr<verify::Backend>(std::make_unique<verify::Verifier>(std::move(verifier)));
  }
  verify_remote::RemoteVerifierConfig remote = config.remote;
  if (config.workers_given) remote.num_workers = config.options.num_workers;
  NF_TRY(remote.api_key, backend_key(config));
  NF_TRY(std::unique_ptr<verify_remote::RemoteVerifier> verifier,
         verify_remote::RemoteVerifier::connect(remote));
  return std::unique_ptr<verify::Backend>(std::move(verifier));
}

Status run_verify(VerifyConfig& config) {
  if ((config.backend == BackendKind::kHttp) == config.remote.urls.empty()) {
    throw CLI::ValidationError("--backend-url", "goes with --backend http, and that needs one");
  }
  if (config.run.empty() && (config.problem.empty() || config.candidate.empty())) {
    throw CLI::ValidationError("verify", "needs --run, or --problem and --candidate");
  }
  NF_TRY(const std::unique_ptr<verify::Backend> backend, open_backend(config));
  return config.run.empty() ? verify_one(config, *backend) : verify_traces(config, *backend);
}

}  // namespace

void add_verify_command(CLI::App& app, Outcome& outcome) {
  auto config = std::make_shared<VerifyConfig>();
  config->options.version = app.version().substr(app.version().rfind(' ') + 1);
  CLI::App* command =
      add_command(app, outcome, "verify", "Verify that kernels are correct and really run in Triton",
                  [config] { return run_verify(*config); });
  CLI::Option* run =
      command->add_option("--run", config->run, "Folder of a run; verifies every trace without a verdict");
  command->add_option("--problem", config->problem, "Problem file in KernelBench format (.py)")
      ->excludes(run);
  command->add_option("--candidate", config->candidate, "Candidate file (.py) that defines ModelNew")
      ->excludes(run);
  command
      ->add_option("--overrides", config->overrides,
                   "JSON file of values for the problem's module constants, such as smaller sizes")
      ->excludes(run);
  const std::map<std::string, verify::Device> devices = {{"auto", verify::Device::kAuto},
                                                         {"interpret", verify::Device::kInterpret},
                                                         {"cuda", verify::Device::kCuda}};
  command
      ->add_option("--device", config->options.device,
                   "Device that runs the kernels; interpret: Triton's interpreter on the CPU")
      ->transform(CLI::CheckedTransformer(devices));
  const std::map<std::string, BackendKind> backends = {
      {"interpret", BackendKind::kInterpret}, {"cuda", BackendKind::kCuda}, {"http", BackendKind::kHttp}};
  command
      ->add_option(
          "--backend", config->backend,
          "interpret (this machine's CPU), cuda (its GPUs, with speedups) or http (`nemoforge verify-worker` "
          "elsewhere)")
      ->transform(CLI::CheckedTransformer(backends));
  command->add_option("--backend-url", config->remote.urls,
                      "A worker, such as http://host:8100; may be given again: jobs are spread over them");
  command->add_option("--backend-key-file", config->key_file,
                      "File with the workers' API key (default: NEMOFORGE_VERIFY_API_KEY)");
  command
      ->add_option("--backend-patience-s", config->remote.patience_s,
                   "Seconds to wait while no worker answers, before giving up")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option_function<int>(
          "--workers",
          [config](int num_workers) {
            config->options.num_workers = num_workers;
            config->workers_given = true;
          },
          "Candidates verified at a time, with --run (cuda: default 3 a GPU, of which one is timed at a "
          "time; http: "
          "default as many as the workers have slots)")
      ->check(CLI::Range(1, 256));
  command->add_flag_callback(
      "--no-sandbox", [config] { config->options.sandbox = false; },
      "Run candidates without isolation (only on a machine that holds nothing else)");
  command->add_flag("!--no-compile-baseline", config->options.time_compiled,
                    "cuda: do not time torch.compile of the reference, which takes up to a minute a problem");
  command->add_flag("--json", config->json, "Print the whole record as one line of JSON");
}

}  // namespace nemoforge::cli
