// nemoforge verify-worker: verification for other machines, over HTTP.
#include "cli/verify_worker.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include "base/interrupt.h"
#include "base/log.h"
#include "server/http_server.h"
#include "verify/verifier.h"
#include "verify_remote/verify_service.h"

namespace nemoforge::cli {
namespace {

// How often the signals are looked at.
constexpr std::chrono::milliseconds kSignalPoll{50};
// What connections get to send the last bytes in.
constexpr std::chrono::seconds kSendRest{2};

struct VerifyWorkerConfig {
  server::HttpConfig http;
  verify_remote::VerifyServiceConfig service;
  verify::Options verify;
};

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

Status run_verify_worker(VerifyWorkerConfig& config) {
  install_interrupt_handler();
  if (const char* key = std::getenv("NEMOFORGE_API_KEY"); key != nullptr && *key != '\0')
    config.service.api_keys.emplace_back(key);
  if (config.service.api_keys.empty() && !is_loopback(config.http.host)) {
    return error(ErrorCode::kInvalidArgument,
                 "--host " + config.http.host + " lets other machines run code here, and there is no API key",
                 "set NEMOFORGE_API_KEY or give --api-key");
  }
  NF_TRY(const verify::Verifier verifier, verify::Verifier::create(config.verify));
  verify_remote::VerifyService service(config.service, verifier);
  NF_TRY(
      const std::unique_ptr<server::HttpServer> http,
      server::HttpServer::start(config.http, [&service](server::HttpRequest&& request,
                                                        const std::shared_ptr<server::Exchange>& exchange) {
        service.handle(std::move(request), exchange);
      }));
  spdlog::info("verifying at http://{}:{} ({}, {} at a time)", config.http.host, http->port(),
               verifier.device_name(), verifier.num_sessions());
  while (!interrupted()) std::this_thread::sleep_for(kSignalPoll);
  spdlog::info("shutting down: jobs that run are finished; a second signal ends them now");
  http->begin_drain();
  service.drain();
  http->stop(std::chrono::steady_clock::now() + kSendRest);
  return {};
}

}  // namespace

void add_verify_worker_command(CLI::App& app, Outcome& outcome) {
  auto config = std::make_shared<VerifyWorkerConfig>();
  config->verify.version = app.version().substr(app.version().rfind(' ') + 1);
  config->verify.num_workers = 0;
  config->service.version = config->verify.version;
  config->http.port = 8100;
  config->http.max_body_bytes = 4 * 1024 * 1024;
  config->http.max_connections = 256;
  CLI::App* command = add_command(app, outcome, "verify-worker",
                                  "Serve verification to `nemoforge verify --backend http` elsewhere",
                                  [config] { return run_verify_worker(*config); });
  command->add_option("--host", config->http.host, "Address to listen on; others than loopback need a key")
      ->capture_default_str();
  command->add_option("--port", config->http.port, "Port; 0: a free one, which the log names")
      ->capture_default_str();
  command->add_option(
      "--api-key", config->service.api_keys,
      "A key that clients must have; may be given again (NEMOFORGE_API_KEY keeps one out of ps)");
  const std::map<std::string, verify::Device> backends = {{"interpret", verify::Device::kInterpret},
                                                          {"cuda", verify::Device::kCuda}};
  command
      ->add_option("--backend", config->verify.device,
                   "interpret (this machine's CPU) or cuda (its GPUs, with speedups)")
      ->transform(CLI::CheckedTransformer(backends));
  command
      ->add_option("--workers", config->verify.num_workers,
                   "Candidates verified at a time (default: one a core, or three a GPU)")
      ->check(CLI::Range(1, 256));
  command->add_option("--max-queue", config->service.max_queue, "Jobs that may wait; more get 429")
      ->check(CLI::Range(0, 10000))
      ->capture_default_str();
  command->add_option("--max-body-bytes", config->http.max_body_bytes, "Of a request; larger ones get 413")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("!--no-compile-baseline", config->verify.time_compiled,
                    "cuda: do not time torch.compile of the reference, which takes up to a minute a problem");
  command->add_flag("!--no-sandbox", config->verify.sandbox,
                    "Run candidates without isolation (only on a machine that holds nothing)");
}

}  // namespace nemoforge::cli
