// nemoforge bench server: what the server adds to the engine.
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "bench/server.h"
#include "cli/generation.h"
#include "cli/remote_commands.h"
#include "cli/standard_input.h"
#include "io/json.h"

namespace nemoforge::cli {
namespace {

struct BenchServerCommand {
  ModelFlags model;
  bench::ServerOptions options;
  bool json = false;
};

io::Json to_json(const bench::Latency& latency) {
  return {{"p50", latency.p50_ms}, {"p99", latency.p99_ms}};
}

Status report(const BenchServerCommand& command, const bench::ServerResult& result) {
  const bench::ServerOptions& options = command.options;
  const io::Json figures = {{"bench", "server"},
                            {"model", command.model.model},
                            {"streams", options.num_streams},
                            {"requests", options.num_requests},
                            {"output_tokens", options.output_tokens},
                            {"rounds", options.num_rounds},
                            {"engine_tokens_per_s", result.engine_tokens_per_s},
                            {"http_tokens_per_s", result.http_tokens_per_s},
                            {"http_requests_per_s", result.http_requests_per_s},
                            {"ratio", result.ratio},
                            {"client_cpu_share", result.client_cpu_share},
                            {"added_cpu_us_per_token", result.added_cpu_us_per_token},
                            {"engine_latency_ms", to_json(result.engine_latency)},
                            {"http_latency_ms", to_json(result.http_latency)}};
  // A difference of two large times, which a few more interruptions turn round.
  const std::string added = result.added_cpu_us_per_token > 0
                                ? fmt::format("{:.1f} us a token", result.added_cpu_us_per_token)
                                : "lost in this run's noise";
  const std::string text = fmt::format(
      "{} streams, {} requests of {} tokens, medians of {} rounds in turns\n"
      "engine alone {:.0f} tokens/s; over HTTP {:.0f} tokens/s ({:.1f} requests/s), {:.1f}% of it; the "
      "client took {:.1f}% of the cores\n"
      "CPU time of the server's own: {}\n"
      "from a token's choice to the client: p50 {:.3f} ms, p99 {:.3f} ms; to a sink in the process: p50 "
      "{:.3f} ms, p99 {:.3f} ms",
      options.num_streams, options.num_requests, options.output_tokens, options.num_rounds,
      result.engine_tokens_per_s, result.http_tokens_per_s, result.http_requests_per_s, 100 * result.ratio,
      100 * result.client_cpu_share, added, result.http_latency.p50_ms, result.http_latency.p99_ms,
      result.engine_latency.p50_ms, result.engine_latency.p99_ms);
  return write_standard_output((command.json ? io::dump_json(figures) : text) + "\n");
}

Status run_bench_server(const BenchServerCommand& command) {
  install_interrupt_handler();
  engine::EngineConfig config;
  config.max_num_seqs = static_cast<int64_t>(command.options.num_streams);
  config.enable_prefix_caching = false;  // every pass computes the same
  NF_TRY(Generator generator, make_generator(command.model, config));
  NF_TRY(const auto chat_template, text::ChatTemplate::load(command.model.model));
  engine::Engine& engine = *generator.engine;
  server::ModelRegistry registry({"model", command.model.model, "", "", engine.limits().max_model_len},
                                 [](const std::string& path) -> Result<server::LoadedAdapter> {
                                   return error(ErrorCode::kUnsupported,
                                                path + ": adapters are not part of this measurement");
                                 });
  const server::ServedModel served{generator.tokenizer.get(), &chat_template, &registry,
                                   engine.limits().max_model_len};
  NF_TRY(const bench::ServerResult result, bench::run_server(engine, served, command.options));
  return report(command, result);
}

}  // namespace

void add_bench_server_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<BenchServerCommand>();
  bench::ServerOptions& options = command->options;
  CLI::App* sub =
      add_command(*app.get_subcommand("bench"), outcome, "server",
                  "Measure what HTTP costs: the same chats through the engine alone and over HTTP, in turns",
                  [command] { return run_bench_server(*command); });
  add_checkpoint_flags(*sub, command->model);
  sub->add_option("--streams", options.num_streams, "Number of requests at the same time")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  sub->add_option("--requests", options.num_requests, "Number of requests per pass")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  sub->add_option("--input-len", options.input_words, "Number of words per prompt")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  sub->add_option("--output-len", options.output_tokens, "Number of tokens per answer")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  sub->add_option("--rounds", options.num_rounds, "Number of passes of each kind, after a warm-up pass")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  sub->add_option("--seed", options.seed, "Seed of the prompts")->capture_default_str();
  sub->add_flag("--json", command->json, "Print the figures as one JSON object");
}

}  // namespace nemoforge::cli
