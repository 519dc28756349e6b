// nemoforge trace: answers to problems, sampled in process or from endpoints, kept in a run.
#include "trace/trace.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "cli/choice.h"
#include "cli/command.h"
#include "cli/generation.h"
#include "cli/loaded_model.h"
#include "cli/problem_check.h"
#include "cli/standard_input.h"
#include "io/json.h"
#include "store/problem_split.h"
#include "store/run_store.h"
#include "text/chat_template.h"
#include "trace/checkpoint_hash.h"
#include "trace/endpoint_source.h"
#include "trace/engine_source.h"
#include "trace/id_pattern.h"
#include "verify/verifier.h"

namespace nemoforge::cli {
namespace {

struct TraceCommand {
  std::string version;
  ModelFlags model;
  trace::EndpointConfig endpoints;
  std::string api_key_variable = "NEMOFORGE_API_KEY";

  std::string problems;
  std::string levels;
  std::string ids;
  std::string filter;
  std::string held_out_pattern;
  double held_out_fraction = 0;
  std::string prompt_template;

  std::string run_dir;
  trace::TraceConfig trace;
  std::optional<int64_t> reasoning_budget;
  bool no_thinking = false;
  int64_t max_num_seqs = 16;
  verify::Options verify;
  bool json = false;
};

trace::NumberRanges ranges_of_flag(const std::string& flag, const std::string& text) {
  auto ranges = trace::parse_number_ranges(text);
  if (!ranges) throw CLI::ValidationError(flag, ranges.error().message);
  return *std::move(ranges);
}

void check_pattern(const std::string& flag, const std::string& pattern) {
  const auto compiled = trace::IdPattern::compile(pattern);
  if (!compiled) throw CLI::ValidationError(flag, compiled.error().message);
}

void check_sampling(const trace::SamplingSettings& settings) {
  sampling::SamplingParams params;
  params.temperature = static_cast<float>(settings.temperature);
  params.top_p = static_cast<float>(settings.top_p);
  params.top_k = static_cast<int32_t>(settings.top_k);
  params.min_p = static_cast<float>(settings.min_p);
  check_flag("sampling", sampling::validate(params, std::numeric_limits<int32_t>::max()));
}

Result<std::vector<trace::Problem>> problems_of(const TraceCommand& command) {
  trace::ProblemFilter filter;
  if (!command.levels.empty()) {
    filter.levels = ranges_of_flag("--levels", command.levels);
  }
  if (!command.ids.empty()) {
    filter.numbers = ranges_of_flag("--ids", command.ids);
  }
  check_pattern("--filter", command.filter);
  filter.id_pattern = command.filter;
  return trace::load_problems(command.problems, filter);
}

// Draws by the problem alone, so that a problem stays on its side whatever else is in the set.
bool is_drawn(double fraction, uint64_t seed, const std::string& problem_id) {
  const std::string hash = sha256_hex(std::to_string(seed) + "/held out/" + problem_id);
  return static_cast<double>(std::stoull(hash.substr(0, 12), nullptr, 16)) <
         fraction * static_cast<double>(uint64_t{1} << 48);
}

// The sides that the flags give the problems; none where no flag asks for a split.
Result<store::ProblemSplits> splits_of(const TraceCommand& command,
                                       const std::vector<trace::Problem>& problems) {
  store::ProblemSplits splits;
  if (command.held_out_pattern.empty() && command.held_out_fraction == 0) return splits;
  NF_TRY(const trace::IdPattern pattern, trace::IdPattern::compile(command.held_out_pattern));
  for (const trace::Problem& problem : problems) {
    const bool is_held_out = (!command.held_out_pattern.empty() && pattern.matches(problem.id)) ||
                             is_drawn(command.held_out_fraction, command.trace.seed, problem.id);
    splits.emplace(problem.id, is_held_out ? store::Split::kHeldOut : store::Split::kTrain);
  }
  return splits;
}

Result<trace::SourceIdentity> identity_of(const ModelFlags& flags) {
  trace::SourceIdentity identity;
  identity.model = std::filesystem::path(flags.model).lexically_normal().filename().string();
  if (identity.model.empty()) identity.model = flags.model;
  NF_TRY(identity.checkpoint_hash, trace::checkpoint_hash(flags.model));
  NF_TRY(identity.template_hash, trace::chat_template_hash(flags.model));
  if (!flags.lora.empty()) {
    NF_TRY(const std::string adapter_hash, trace::checkpoint_hash(flags.lora));
    identity.adapter = flags.lora + "@" + adapter_hash.substr(0, 16);
  }
  return identity;
}

// A source and what it stands on.
struct OpenedSource {
  std::optional<text::ChatTemplate> chat_template;
  std::optional<Generator> generator;
  std::unique_ptr<trace::TraceSource> source;
};

Status open_engine(const TraceCommand& command, OpenedSource& opened) {
  NF_TRY(trace::SourceIdentity identity, identity_of(command.model));
  NF_TRY(opened.chat_template, text::ChatTemplate::load(command.model.model));
  engine::EngineConfig config;
  config.max_num_seqs = command.max_num_seqs;
  NF_TRY(opened.generator, make_generator(command.model, config));
  Generator& generator = *opened.generator;
  opened.source = std::make_unique<trace::EngineSource>(
      trace::EngineParts{*generator.engine, *generator.tokenizer, *opened.chat_template,
                         generator.loaded.adapter},
      std::move(identity), command.trace.sampling);
  return {};
}

Status open_endpoints(const TraceCommand& command, OpenedSource& opened) {
  trace::EndpointConfig config = command.endpoints;
  if (const char* key = std::getenv(command.api_key_variable.c_str())) config.api_key = key;
  NF_TRY(trace::EndpointSource source,
         trace::EndpointSource::connect(std::move(config), command.trace.sampling, interrupted));
  opened.source = std::make_unique<trace::EndpointSource>(std::move(source));
  return {};
}

std::string settings_json(const TraceCommand& command, const trace::PromptTemplate& prompt) {
  io::Json settings = {{"problems", command.problems},
                       {"model", command.model.model},
                       {"lora", command.model.lora},
                       {"endpoints", command.endpoints.urls},
                       {"num_samples", command.trace.num_samples},
                       {"num_attempts", command.trace.num_attempts},
                       {"target_speedup", nullptr},
                       {"held_out", command.held_out_pattern},
                       {"held_out_fraction", command.held_out_fraction}};
  if (command.trace.target_speedup) settings["target_speedup"] = *command.trace.target_speedup;
  if (const auto sampling = io::parse_json(trace::sampling_json(command.trace, prompt))) {
    settings["sampling"] = *sampling;
  }
  return io::dump_json(settings);
}

Status print_report(const TraceCommand& command, const trace::TraceReport& report) {
  const double rate =
      report.duration_s > 0 ? static_cast<double>(report.num_completion_tokens) / report.duration_s : 0;
  if (command.json) {
    const io::Json json = {{"run", command.run_dir},
                           {"num_wanted", report.num_wanted},
                           {"num_earlier", report.num_earlier},
                           {"num_generated", report.num_generated},
                           {"num_failed", report.num_failed},
                           {"num_with_code", report.num_with_code},
                           {"num_completion_tokens", report.num_completion_tokens},
                           {"duration_s", report.duration_s},
                           {"tokens_per_s", rate},
                           {"interrupted", report.interrupted}};
    return write_standard_output(io::dump_json(json) + "\n");
  }
  return write_standard_output(fmt::format(
      "{}: {} of {} traces, {} of them new, {} of these with code; {} tokens in {}, {:.0f} tokens/s\n",
      command.run_dir, report.num_earlier + report.num_generated, report.num_wanted, report.num_generated,
      report.num_with_code, report.num_completion_tokens, format_duration(report.duration_s), rate));
}

// Gives a verdict to every trace of the run that has none.
Status verify_run(const TraceCommand& command, const verify::Verifier& verifier) {
  NF_TRY(store::RunStore run,
         store::RunStore::open(command.run_dir, store::Access::kVerify, {"verify", command.version, "{}"}));
  NF_TRY(const auto unverified, run.unverified_traces(verifier.device_name()));
  if (unverified.empty()) return {};
  Progress progress("verify", "traces", static_cast<int64_t>(unverified.size()));
  int64_t num_correct = 0;
  return verifier.verify_run(run, [&](const verify::Verifier::Progress& done) {
    num_correct += done.verification->judgement.correct() ? 1 : 0;
    progress.set_note(fmt::format("{}% correct", 100 * num_correct / done.num_done));
    progress.finish_item();
    return !interrupted();
  });
}

// What generate_traces needs for later attempts; nothing where there are none. Fails before anything is
// sampled where nothing can be verified.
Result<std::optional<verify::Verifier>> verifier_of(const TraceCommand& command) {
  if (command.trace.num_attempts == 1) return std::optional<verify::Verifier>();
  NF_TRY(verify::Verifier verifier, verify::Verifier::create(command.verify));
  return std::optional<verify::Verifier>(std::move(verifier));
}

Status run_trace(TraceCommand& command) {
  if (command.model.model.empty() == command.endpoints.urls.empty()) {
    throw CLI::ValidationError("trace", "give either --model or --endpoint");
  }
  command.trace.sampling.reasoning_budget = command.reasoning_budget;
  command.trace.sampling.enable_thinking = !command.no_thinking;
  if (command.trace.target_speedup && command.trace.num_attempts == 1) {
    throw CLI::ValidationError("--target-speedup", "needs --attempts 2 or more");
  }
  check_sampling(command.trace.sampling);
  check_pattern("--held-out", command.held_out_pattern);
  install_interrupt_handler();
  NF_TRY(const std::optional<verify::Verifier> verifier, verifier_of(command));
  if (verifier) command.trace.verify = [&] { return verify_run(command, *verifier); };
  NF_TRY(const std::vector<trace::Problem> problems, problems_of(command));
  const ProblemCheck problem_check(problems);
  NF_TRY(const store::ProblemSplits splits, splits_of(command, problems));
  trace::PromptTemplate prompt = trace::PromptTemplate::zero_shot();
  if (!command.prompt_template.empty()) {
    NF_TRY(prompt, trace::PromptTemplate::read(command.prompt_template));
  }
  NF_TRY(store::RunStore run,
         store::RunStore::open(command.run_dir, store::Access::kTrace,
                               {"trace", command.version, settings_json(command, prompt)}));
  if (!splits.empty()) NF_RETURN_IF_ERROR(store::record_problem_splits(command.run_dir, splits));
  OpenedSource opened;
  NF_RETURN_IF_ERROR(command.endpoints.urls.empty() ? open_engine(command, opened)
                                                    : open_endpoints(command, opened));
  NF_TRY(const trace::TraceReport report,
         trace::generate_traces(run, problems, prompt, *opened.source, command.trace,
                                ProgressOutput::standard_error(), interrupted));
  // The last attempts too, so that the run can be reported on as it is.
  if (verifier && !report.interrupted) NF_RETURN_IF_ERROR(verify_run(command, *verifier));
  NF_RETURN_IF_ERROR(print_report(command, report));
  if (report.interrupted || interrupted()) {
    return error(ErrorCode::kCancelled, "interrupted; the run keeps the finished traces",
                 "continue with --resume");
  }
  if (report.num_failed > 0) {
    return error(
        ErrorCode::kUnavailable,
        std::to_string(report.num_failed) + " traces could not be had, the first: " + report.first_failure,
        "--resume asks for them again");
  }
  return {};
}

void add_source_flags(CLI::App& app, TraceCommand& command) {
  app.add_option("--model", command.model.model,
                 "Checkpoint folder in Hugging Face format, to sample in this process");
  app.add_option("--device", command.model.device,
                 "Device that runs the model (auto: the GPU if there is one)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda", "reference"}))
      ->capture_default_str();
  app.add_option("--dtype", command.model.dtype,
                 "Data type of the activations (auto: fp32 on the CPU, bf16 on a GPU)")
      ->check(CLI::IsMember({"auto", "fp32", "bf16"}))
      ->capture_default_str();
  app.add_option("--lora", command.model.lora, "Folder of a LoRA adapter in PEFT format");
  app.add_option("--max-num-seqs", command.max_num_seqs,
                 "Maximum number of sequences that run at the same time in this process")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option(
      "--endpoint", command.endpoints.urls,
      "URL of an OpenAI-compatible server to sample from, such as http://host:8000; takes several");
  app.add_option("--served-model-name", command.endpoints.model,
                 "Name of the model at the endpoints (default: the first one that they list)");
  app.add_option("--concurrency", command.endpoints.max_in_flight_each,
                 "Maximum number of requests in flight per endpoint")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--timeout-s,--timeout", command.endpoints.timeout_s,
                 "Maximum number of seconds per answer of an endpoint")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--give-up-after", command.endpoints.give_up_after_s,
                 "Number of seconds without any endpoint after which the run ends")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--api-key-env", command.api_key_variable,
                 "Name of the environment variable that holds the endpoints' API key")
      ->capture_default_str();
}

void add_problem_flags(CLI::App& app, TraceCommand& command) {
  app.add_option("--problems", command.problems, "Problem file, folder of problems, or KernelBench checkout")
      ->required();
  app.add_option("--levels", command.levels, "Levels to keep, such as 1,2");
  app.add_option("--ids", command.ids, "Problem numbers to keep, such as 1-20,33");
  app.add_option("--filter", command.filter, "Regular expression that the ids of the problems to keep match");
  app.add_option("--held-out", command.held_out_pattern,
                 "Regular expression; problems whose ids match it are permanently excluded from training");
  app.add_option("--held-out-fraction", command.held_out_fraction,
                 "Fraction of the problems, drawn with --seed, that is permanently excluded from training")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--prompt-template", command.prompt_template,
                 "Prompt file in which {{problem}} stands for the problem (default: zero-shot)");
}

void add_sampling_flags(CLI::App& app, TraceCommand& command) {
  trace::SamplingSettings& sampling = command.trace.sampling;
  app.add_option("--samples", command.trace.num_samples, "Number of samples per problem")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--temperature", sampling.temperature,
                 "Sampling temperature; 0: always the most probable token")
      ->check(CLI::Range(0.0, 2.0))
      ->capture_default_str();
  app.add_option("--top-p", sampling.top_p,
                 "Sample from the smallest set of tokens whose total probability reaches this")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--top-k", sampling.top_k, "Sample from the k most probable tokens; 0: from all")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--min-p", sampling.min_p,
                 "Minimum probability of a token, relative to the most probable one")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--seed", command.trace.seed, "Seed of the run, from which each trace derives its own")
      ->capture_default_str();
  app.add_option("--max-tokens", sampling.max_tokens,
                 "Maximum number of tokens per answer, reasoning included")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_option("--reasoning-budget", command.reasoning_budget,
                 "Maximum number of reasoning tokens before </think>")
      ->check(CLI::Range(0, 1 << 24));
  app.add_flag("--no-thinking", command.no_thinking, "Answer without reasoning");
}

void add_refinement_flags(CLI::App& app, TraceCommand& command) {
  app.add_option("--attempts", command.trace.num_attempts,
                 "Maximum number of attempts per sample; each is verified, and a failed one goes back to the "
                 "model with "
                 "its verdict")
      ->check(CLI::Range(int64_t{1}, int64_t{64}))
      ->capture_default_str();
  app.add_option("--target-speedup", command.trace.target_speedup,
                 "Speedup below which correct kernels go back too, with --attempts")
      ->check(CLI::PositiveNumber);
  const std::map<std::string, verify::Device> devices = {{"auto", verify::Device::kAuto},
                                                         {"interpret", verify::Device::kInterpret},
                                                         {"cuda", verify::Device::kCuda}};
  app.add_option("--verify-device", command.verify.device,
                 "Device that verifies the candidates, with --attempts")
      ->transform(one_of(devices));
  app.add_option("--verify-workers", command.verify.num_workers,
                 "Number of candidates verified at the same time, with --attempts")
      ->check(CLI::Range(1, 256));
  app.add_flag_callback(
      "--no-sandbox", [&command] { command.verify.sandbox = false; },
      "Run candidates without isolation, with --attempts (only on a machine that holds nothing else)");
}

}  // namespace

void add_trace_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<TraceCommand>();
  // "nemoforge 0.1.0"
  command->version = app.version().substr(app.version().rfind(' ') + 1);
  command->verify.version = command->version;
  command->verify.num_workers = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  CLI::App* sub = add_command(app, outcome, "trace", "Sample answers to problems and store them in a run",
                              [command] { return run_trace(*command); });
  add_source_flags(*sub, *command);
  add_problem_flags(*sub, *command);
  add_sampling_flags(*sub, *command);
  add_refinement_flags(*sub, *command);
  sub->add_option("--run", command->run_dir, "Folder of the run; created if missing")->required();
  sub->add_flag("--resume", command->trace.resume, "Continue a run: sample only what it lacks");
  sub->add_flag("--json", command->json, "Print a summary as one JSON object on the last line");
}

}  // namespace nemoforge::cli
