// nemoforge bench serve: what clients of an OpenAI endpoint see under load.
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "cli/remote_commands.h"
#include "cli/standard_input.h"
#include "endpoint/openai_api.h"
#include "endpoint/serving_load.h"
#include "io/file.h"
#include "io/json.h"

namespace nemoforge::cli {
namespace {

struct BenchServeCommand {
  endpoint::ServingLoad load;
  std::string backend = "openai-chat";
  std::vector<int64_t> concurrencies = {1};
  std::vector<std::string> rates = {"inf"};
  int64_t num_warmups = 1;
  std::string result_file;
  bool json = false;
};

double read_rate(const std::string& text) {
  char* end = nullptr;
  const double rate = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(rate > 0))
    throw CLI::ValidationError("--request-rate",
                               "expected a number of requests per second or inf, got '" + text + "'");
  return rate;
}

void add_distribution(io::Json& json, const std::string& name, const endpoint::Distribution& values) {
  json["mean_" + name + "_ms"] = values.mean;
  json["median_" + name + "_ms"] = values.median;
  json["std_" + name + "_ms"] = values.std;
  json["p50_" + name + "_ms"] = values.median;
  json["p99_" + name + "_ms"] = values.p99;
}

// With the names of `vllm bench serve --save-result`.
io::Json result_json(const BenchServeCommand& command, const endpoint::ServingLoad& load,
                     const endpoint::ServingReport& report) {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  const auto per_second = [&](int64_t count) {
    return report.duration_s > 0 ? static_cast<double>(count) / report.duration_s : 0.0;
  };
  io::Json json = {{"date", fmt::format("{:%Y%m%d-%H%M%S}", fmt::gmtime(now))},
                   {"backend", command.backend},
                   {"model_id", load.model},
                   {"num_prompts", load.num_prompts}};
  if (std::isinf(load.request_rate))
    json["request_rate"] = "inf";
  else
    json["request_rate"] = load.request_rate;
  json["max_concurrency"] = load.max_concurrency;
  json["duration"] = report.duration_s;
  json["completed"] = report.completed;
  json["failed"] = report.failed;
  json["total_input_tokens"] = report.total_input_tokens;
  json["total_output_tokens"] = report.total_output_tokens;
  json["request_throughput"] = per_second(report.completed);
  json["output_throughput"] = per_second(report.total_output_tokens);
  json["total_token_throughput"] = per_second(report.total_input_tokens + report.total_output_tokens);
  json["max_output_tokens_per_s"] = report.max_output_tokens_per_s;
  json["max_concurrent_requests"] = report.max_concurrent_requests;
  add_distribution(json, "ttft", report.ttft_ms);
  add_distribution(json, "tpot", report.tpot_ms);
  add_distribution(json, "itl", report.itl_ms);
  add_distribution(json, "e2el", report.e2el_ms);
  return json;
}

constexpr const char* kTableHead =
    "concurrency  rate/s   ok fail    req/s  out tok/s | TTFT ms p50      p99 | TPOT ms p50      p99 | ITL "
    "ms "
    "p50      p99\n";

std::string table_row(const endpoint::ServingLoad& load, const endpoint::ServingReport& report) {
  const double duration_s = std::max(report.duration_s, 1e-9);
  return fmt::format(
      "{:11} {:7.4g} {:4} {:4} {:8.2f} {:10.1f} | {:11.2f} {:8.2f} | {:11.2f} {:8.2f} | {:10.2f} {:8.2f}\n",
      load.max_concurrency, load.request_rate, report.completed, report.failed,
      static_cast<double>(report.completed) / duration_s,
      static_cast<double>(report.total_output_tokens) / duration_s, report.ttft_ms.median, report.ttft_ms.p99,
      report.tpot_ms.median, report.tpot_ms.p99, report.itl_ms.median, report.itl_ms.p99);
}

Status warm_up(const BenchServeCommand& command) {
  if (command.num_warmups == 0) return {};
  endpoint::ServingLoad load = command.load;
  load.num_prompts = command.num_warmups;
  load.max_concurrency = command.num_warmups;
  load.seed += 1;  // other prompts, which leave nothing in a prefix cache that helps later
  NF_RETURN_IF_ERROR(endpoint::send_load(load));
  return {};
}

Status run_bench_serve(BenchServeCommand& command) {
  std::vector<double> rates;
  for (const std::string& rate : command.rates) rates.push_back(read_rate(rate));
  install_interrupt_handler();
  endpoint::ServingLoad& load = command.load;
  load.url = endpoint::server_root(load.url);
  load.chat = command.backend == "openai-chat";
  if (load.model.empty()) {
    NF_TRY(load.model, endpoint::first_model(load.url, load.api_key, load.timeout_s));
  }
  NF_RETURN_IF_ERROR(warm_up(command));
  io::Json results = io::Json::array();
  int64_t num_failed = 0;
  std::string first_error;
  if (!command.json) NF_RETURN_IF_ERROR(write_standard_output(kTableHead));
  for (const int64_t concurrency : command.concurrencies) {
    for (const double rate : rates) {
      load.max_concurrency = concurrency;
      load.request_rate = rate;
      load.seed += 2;
      NF_TRY(const std::vector<endpoint::ServedRequest> requests, endpoint::send_load(load));
      const endpoint::ServingReport report = endpoint::summarize(requests);
      num_failed += report.failed;
      for (const endpoint::ServedRequest& request : requests)
        if (first_error.empty()) first_error = request.error;
      results.push_back(result_json(command, load, report));
      NF_RETURN_IF_ERROR(write_standard_output(command.json ? io::dump_json(results.back()) + "\n"
                                                            : table_row(load, report)));
    }
  }
  if (!command.result_file.empty())
    NF_RETURN_IF_ERROR(io::write_file_atomically(
        command.result_file, io::dump_json(results.size() == 1 ? results[0] : results) + "\n"));
  if (num_failed == 0) return {};
  return error(ErrorCode::kUnavailable,
               fmt::format("{} requests failed, the first: {}", num_failed, first_error));
}

}  // namespace

void add_bench_serve_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<BenchServeCommand>();
  endpoint::ServingLoad& load = command->load;
  CLI::App* sub = add_command(*app.get_subcommand("bench"), outcome, "serve",
                              "Measure an OpenAI-compatible server under the load of many streaming clients",
                              [command] { return run_bench_serve(*command); });
  sub->add_option("--endpoint,--base-url", load.url,
                  "URL of the server, such as http://127.0.0.1:8000, with or without /v1")
      ->required();
  sub->add_option("--backend", command->backend,
                  "API to use; openai-chat: chat completions, openai: completions")
      ->check(CLI::IsMember({"openai-chat", "openai"}))
      ->capture_default_str();
  sub->add_option("--model", load.model, "Name of the model (default: the first one that the server lists)");
  sub->add_option("--api-key", load.api_key, "API key of the server")->envname("OPENAI_API_KEY");
  sub->add_option("--num-prompts", load.num_prompts, "Number of requests per run")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  sub->add_option("--random-input-len", load.input_words,
                  "Number of words per prompt; the server counts their tokens")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  sub->add_option("--random-output-len", load.output_tokens, "Maximum number of tokens per answer")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  sub->add_flag("--ignore-eos", load.ignore_eos,
                "Request answers of exactly that length (vLLM and nemoforge only)");
  sub->add_option("--max-concurrency", command->concurrencies,
                  "Maximum number of requests in flight; a list such as 1,8,64 makes one run each")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  sub->add_option("--request-rate", command->rates,
                  "Mean requests per second, arriving at random; a list such as 1,4,inf makes one run each")
      ->delimiter(',')
      ->capture_default_str();
  sub->add_option("--num-warmups", command->num_warmups, "Number of warm-up requests before the first run")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  sub->add_option("--timeout-s", load.timeout_s, "Maximum number of seconds per answer")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--seed", load.seed, "Seed of the prompts and arrival times")->capture_default_str();
  sub->add_option("--result-filename", command->result_file, "File to write the results to as JSON");
  sub->add_flag("--json", command->json, "Print one JSON object per run, with the names of vllm bench serve");
}

}  // namespace nemoforge::cli
