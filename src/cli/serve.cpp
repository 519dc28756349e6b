// nemoforge serve: the OpenAI-compatible server.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/interrupt.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/generation.h"
#include "server/api.h"
#include "server/http_server.h"
#include "server/tls.h"
#include "trace/checkpoint_hash.h"

namespace nemoforge::cli {
namespace {

struct ServeConfig {
  ModelFlags model;
  engine::EngineConfig engine;
  server::HttpConfig http;
  server::ApiConfig api;
  std::string certificate_file;
  std::string key_file;
  std::string served_model_name;
  std::vector<std::string> adapters;  // NAME=DIR
  int64_t drain_timeout_s = 30;
  bool no_prefix_caching = false;
  bool no_access_log = false;
};

// How often the signals are looked at.
constexpr std::chrono::milliseconds kSignalPoll{50};
// What connections get to send the last bytes in.
constexpr std::chrono::seconds kSendRest{2};

Status load_adapters(const std::vector<std::string>& flags, server::ModelRegistry& registry) {
  for (const std::string& flag : flags) {
    const size_t equals = flag.find('=');
    if (equals == 0 || equals == std::string::npos)
      throw CLI::ValidationError("--lora", "expected NAME=DIR, got '" + flag + "'");
    NF_RETURN_IF_ERROR(registry.load(flag.substr(0, equals), flag.substr(equals + 1)));
  }
  return {};
}

Result<server::LoadedAdapter> load_served_adapter(const std::string& path, const LoadedModel& model) {
  server::LoadedAdapter loaded;
  NF_TRY(loaded.adapter, load_adapter(path, model));
  NF_TRY(loaded.hash, trace::checkpoint_hash(path));
  return loaded;
}

// The last part of the checkpoint's path.
std::string default_name(const std::string& model) {
  std::filesystem::path path = std::filesystem::weakly_canonical(model);
  return path.filename().string();
}

// Until a signal, or until the engine has failed.
void wait_for_end(const engine::Engine& engine) {
  while (!interrupted() && engine.is_healthy()) std::this_thread::sleep_for(kSignalPoll);
}

Status run_serve(ServeConfig& config) {
  install_interrupt_handler();
  config.engine.enable_prefix_caching = !config.no_prefix_caching;
  config.api.access_log = !config.no_access_log;
  if (const char* key = std::getenv("NEMOFORGE_API_KEY"); key != nullptr && *key != '\0')
    config.api.api_keys.emplace_back(key);
  if (!config.certificate_file.empty()) {
    NF_TRY(config.http.tls, server::load_tls_context(config.certificate_file, config.key_file));
  }
  NF_TRY(Generator generator, make_generator(config.model, config.engine));
  auto chat_template = text::ChatTemplate::load(config.model.model);
  if (!chat_template && chat_template.error().code != ErrorCode::kNotFound)
    return forward_error(std::move(chat_template));

  const LoadedModel& loaded = generator.loaded;
  engine::Engine& engine = *generator.engine;
  if (config.served_model_name.empty()) config.served_model_name = default_name(config.model.model);
  server::ServedCheckpoint checkpoint;
  checkpoint.name = config.served_model_name;
  checkpoint.root = config.model.model;
  NF_TRY(checkpoint.checkpoint_hash, trace::checkpoint_hash(config.model.model));
  if (chat_template) {
    NF_TRY(checkpoint.chat_template_hash, trace::chat_template_hash(config.model.model));
  }
  checkpoint.max_model_len = engine.limits().max_model_len;
  server::ModelRegistry registry(std::move(checkpoint), [&loaded](const std::string& path) {
    return load_served_adapter(path, loaded);
  });
  NF_RETURN_IF_ERROR(load_adapters(config.adapters, registry));
  const server::ServedModel served{generator.tokenizer.get(), chat_template ? &*chat_template : nullptr,
                                   &registry, engine.limits().max_model_len};

  std::unique_ptr<server::HttpServer> http;
  server::Api api(config.api, served, engine);
  NF_TRY(http,
         server::HttpServer::start(config.http, [&api](server::HttpRequest&& request,
                                                       const std::shared_ptr<server::Exchange>& exchange) {
           api.handle(std::move(request), exchange);
         }));
  spdlog::info("serving {} at {}://{}:{} ({} sequences of at most {} tokens)", config.served_model_name,
               config.http.tls ? "https" : "http", config.http.host, http->port(),
               engine.limits().max_num_seqs, engine.limits().max_model_len);
  wait_for_end(engine);

  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(config.drain_timeout_s);
  spdlog::info("shutting down: running requests have {} s to finish; a second signal aborts them",
               config.drain_timeout_s);
  http->begin_drain();
  const bool drained = api.drain(deadline);
  if (!drained) spdlog::warn("the deadline has passed: aborting the requests that still run");
  const bool was_healthy = engine.is_healthy();
  engine.stop();
  http->stop(std::chrono::steady_clock::now() + kSendRest);
  if (!was_healthy) return error(ErrorCode::kUnavailable, "the engine failed", "the log says why");
  return {};
}

void add_engine_flags(CLI::App& command, engine::EngineConfig& engine) {
  command
      .add_option("--max-num-seqs", engine.max_num_seqs,
                  "Maximum number of sequences that run at the same time")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option(
          "--max-model-len", engine.max_model_len,
          "Maximum number of tokens of prompt and completion (default: the model's, or what fits in memory)")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--max-num-batched-tokens", engine.max_num_batched_tokens,
                  "Maximum number of tokens per step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void add_tls_flags(CLI::App& command, ServeConfig& config) {
  auto* certificate = command.add_option("--ssl-certfile", config.certificate_file,
                                         "PEM file of the server's certificate and its chain; serves HTTPS");
  auto* key =
      command.add_option("--ssl-keyfile", config.key_file, "PEM file of the certificate's private key");
  certificate->needs(key);
  key->needs(certificate);
}

void add_http_flags(CLI::App& command, server::HttpConfig& http) {
  command.add_option("--host", http.host, "Address to listen on")->capture_default_str();
  command.add_option("--port", http.port, "Port to listen on; 0: any free port, which the log names")
      ->capture_default_str();
  command
      .add_option("--max-body-bytes", http.max_body_bytes,
                  "Maximum size of a request body; larger ones get 413")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option("--max-header-bytes", http.max_header_bytes,
                  "Maximum size of a request's headers; larger ones get 431")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option("--max-connections", http.max_connections,
                  "Maximum number of open connections; more get 503")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

}  // namespace

void add_serve_command(CLI::App& app, Outcome& outcome) {
  auto config = std::make_shared<ServeConfig>();
  config->engine.max_num_seqs = 64;
  config->api.version = NEMOFORGE_VERSION;
  CLI::App* command = add_command(app, outcome, "serve", "Serve the model over an OpenAI-compatible HTTP API",
                                  [config] { return run_serve(*config); });
  add_checkpoint_flags(*command, config->model);
  add_engine_memory_flag(*command, config->model);
  add_engine_flags(*command, config->engine);
  add_http_flags(*command, config->http);
  add_tls_flags(*command, *config);
  command->add_option("--served-model-name", config->served_model_name,
                      "Name of the model for clients (default: the folder's name)");
  command->add_option("--lora", config->adapters,
                      "Adapter as NAME=DIR, which clients choose by `model`; repeatable");
  command->add_flag("--allow-lora-updates", config->api.allow_lora_updates,
                    "Allow clients to load and unload adapters from folders of this machine");
  command->add_option(
      "--api-key", config->api.api_keys,
      "API key that clients must send; repeatable (NEMOFORGE_API_KEY in the environment hides it from ps)");
  command->add_option("--cors-origin", config->api.cors_origins,
                      "Origin whose pages may call the server, or *; repeatable");
  command
      ->add_option("--max-queue", config->api.max_queue,
                   "Maximum number of waiting completions; more get 429")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--drain-timeout-s", config->drain_timeout_s,
                   "Number of seconds that running requests have after SIGTERM")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("--no-prefix-caching", config->no_prefix_caching,
                    "Compute every prompt in full, without prefix caching");
  command->add_flag("--no-access-log", config->no_access_log,
                    "Do not log a line of JSON per answer on standard error");
}

}  // namespace nemoforge::cli
