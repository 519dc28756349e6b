// nemoforge test-server: whether an OpenAI endpoint does what the rest of nemoforge relies on.
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/remote_commands.h"
#include "cli/standard_input.h"
#include "endpoint/conformance.h"
#include "io/json.h"

namespace nemoforge::cli {
namespace {

using io::Json;

struct TestServerCommand {
  endpoint::ConformanceConfig config;
  bool json = false;
};

std::string to_table(const endpoint::ConformanceReport& report) {
  std::string text = fmt::format("{} {}\n", report.url, report.model);
  for (const endpoint::ConformanceCheck& check : report.checks)
    text += fmt::format("{:4}  {:24} {:8.0f} ms  {}\n", check.passed ? "pass" : "FAIL", check.name, check.ms,
                        check.detail);
  const auto num_checks = static_cast<int64_t>(report.checks.size());
  return text + fmt::format("{} of {} passed\n", num_checks - report.num_failed(), num_checks);
}

std::string to_json(const endpoint::ConformanceReport& report) {
  Json checks = Json::array();
  for (const endpoint::ConformanceCheck& check : report.checks)
    checks.push_back(
        {{"name", check.name}, {"passed", check.passed}, {"detail", check.detail}, {"ms", check.ms}});
  return io::dump_json({{"url", report.url},
                        {"model", report.model},
                        {"num_checks", report.checks.size()},
                        {"num_failed", report.num_failed()},
                        {"checks", std::move(checks)}}) +
         "\n";
}

Status run_test_server(const TestServerCommand& command) {
  const endpoint::ConformanceReport report = endpoint::check_conformance(command.config);
  NF_RETURN_IF_ERROR(write_standard_output(command.json ? to_json(report) : to_table(report)));
  if (report.num_failed() == 0) return {};
  return error(ErrorCode::kInvalidData,
               fmt::format("{} of {} checks failed", report.num_failed(), report.checks.size()));
}

}  // namespace

void add_test_server_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<TestServerCommand>();
  endpoint::ConformanceConfig& config = command->config;
  CLI::App* sub = add_command(app, outcome, "test-server",
                              "Check that an OpenAI-compatible server behaves as clients expect",
                              [command] { return run_test_server(*command); });
  sub->add_option("url,--endpoint", config.url,
                  "URL of the server, such as http://127.0.0.1:8000, with or without /v1")
      ->required();
  sub->add_option("--model", config.model,
                  "Name of the model (default: the first one that the server lists)");
  sub->add_option("--api-key", config.api_key, "API key of the server")->envname("OPENAI_API_KEY");
  sub->add_option("--timeout-s", config.timeout_s, "Maximum number of seconds per answer")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--max-tokens", config.max_tokens,
                  "Maximum number of tokens per answer, reasoning included")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_flag("--json", command->json, "Print one JSON object instead of a table");
}

}  // namespace nemoforge::cli
