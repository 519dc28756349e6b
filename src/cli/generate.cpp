// nemoforge generate: one completion of a prompt.
#include "engine/generate.h"

#include <charconv>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "cli/command.h"
#include "cli/generation.h"
#include "cli/standard_input.h"
#include "io/json.h"
#include "text/chat_template.h"

namespace nemoforge::cli {
namespace {

struct GenerateConfig {
  ModelFlags model;
  GenerationFlags generation;
  std::string prompt;
  std::string messages;
  std::string prompt_ids;
  bool json = false;
};

Result<std::vector<int32_t>> parse_prompt_ids(const std::string& text) {
  std::vector<int32_t> ids;
  const char* const end = text.data() + text.size();
  for (const char* place = text.data();;) {
    int32_t id = 0;
    const auto [next, failure] = std::from_chars(place, end, id);
    if (failure != std::errc() || (next != end && *next != ',')) {
      return error(ErrorCode::kInvalidArgument, "expected token ids separated by commas, got '" + text + "'");
    }
    ids.push_back(id);
    if (next == end) return ids;
    place = next + 1;
  }
}

Result<io::Json> read_messages(const std::string& path) {
  if (path != "-") return io::read_json_file(path);
  NF_TRY(const std::string text, read_standard_input());
  return io::parse_json(text);
}

Result<std::vector<int32_t>> prompt_of(const GenerateConfig& config, const text::Tokenizer& tokenizer) {
  if (config.messages.empty()) return tokenizer.encode(config.prompt);
  NF_TRY(const text::ChatTemplate chat_template, text::ChatTemplate::load(config.model.model));
  NF_TRY(io::Json body, read_messages(config.messages));
  // A bare array of messages, or a request with messages, tools and template arguments.
  if (body.is_array()) body = io::Json{{"messages", std::move(body)}};
  NF_TRY(const text::ChatRequest request, text::ChatRequest::from_json(body));
  NF_TRY(const std::string prompt, chat_template.render(request));
  return tokenizer.encode(prompt);
}

io::Json logprobs_json(const engine::Completion& completion) {
  io::Json list = io::Json::array();
  for (const sampling::SampledToken& token : completion.tokens) {
    io::Json top = io::Json::array();
    for (const sampling::TokenLogprob& other : token.top_logprobs) {
      top.push_back({{"token_id", other.token_id}, {"logprob", other.logprob}});
    }
    list.push_back(
        {{"token_id", token.token_id}, {"logprob", token.logprob}, {"top_logprobs", std::move(top)}});
  }
  return list;
}

double seconds_between(engine::Clock::time_point begin, engine::Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

io::Json completion_json(const engine::Completion& completion, const std::vector<int32_t>& prompt_token_ids,
                         bool with_logprobs) {
  const engine::Finish& finish = completion.finish;
  io::Json token_ids = io::Json::array();
  for (const sampling::SampledToken& token : completion.tokens) token_ids.push_back(token.token_id);
  io::Json result = {
      {"text", completion.text},
      {"prompt_token_ids", prompt_token_ids},
      {"token_ids", std::move(token_ids)},
      {"finish_reason", engine::finish_reason_name(finish.reason)},
      {"usage",
       {{"prompt_tokens", finish.usage.prompt_tokens},
        {"completion_tokens", finish.usage.completion_tokens},
        {"total_tokens", finish.usage.prompt_tokens + finish.usage.completion_tokens},
        {"reasoning_tokens", finish.usage.reasoning_tokens}}},
      {"seed", finish.seed},
      {"time_to_first_token_s", seconds_between(finish.timings.arrival, finish.timings.first_token)},
      {"decode_s", seconds_between(finish.timings.first_token, finish.timings.last_token)},
  };
  if (with_logprobs) result["logprobs"] = logprobs_json(completion);
  return result;
}

Status run_generate(const GenerateConfig& config) {
  const int num_prompts = (config.prompt.empty() ? 0 : 1) + (config.messages.empty() ? 0 : 1) +
                          (config.prompt_ids.empty() ? 0 : 1);
  if (num_prompts != 1)
    throw CLI::ValidationError("generate", "give exactly one of --prompt, --messages and --prompt-ids");
  check_generation_flags(config.generation);
  std::vector<int32_t> given_ids;
  if (!config.prompt_ids.empty()) {
    auto parsed = parse_prompt_ids(config.prompt_ids);
    if (!parsed) throw CLI::ValidationError("--prompt-ids", parsed.error().message);
    given_ids = *std::move(parsed);
  }
  install_interrupt_handler();
  engine::EngineConfig engine_config;
  engine_config.max_num_seqs = 1;
  NF_TRY(Generator generator, make_generator(config.model, engine_config));
  std::vector<int32_t> prompt_token_ids = std::move(given_ids);
  if (prompt_token_ids.empty()) {
    NF_TRY(prompt_token_ids, prompt_of(config, *generator.tokenizer));
  }
  NF_TRY(engine::Request request,
         make_request(config.generation, prompt_token_ids, generator.loaded.adapter));

  Status written;
  const auto show = [&](const engine::RequestOutput& output) {
    if (!config.json) written = write_standard_output(output.text);
    return written.has_value();  // nobody reads any more: no need to go on
  };
  NF_TRY(const auto completions, engine::generate(*generator.engine, std::move(request), show));
  const engine::Completion& completion = completions[0];
  NF_RETURN_IF_ERROR(written);
  const bool with_logprobs = config.generation.top_logprobs.has_value();
  NF_RETURN_IF_ERROR(write_standard_output(
      config.json ? io::dump_json(completion_json(completion, prompt_token_ids, with_logprobs)) + "\n"
                  : "\n"));
  if (completion.finish.reason == engine::FinishReason::kAbort)
    return error(ErrorCode::kCancelled, "interrupted");
  return {};
}

}  // namespace

void add_generate_command(CLI::App& app, Outcome& outcome) {
  auto config = std::make_shared<GenerateConfig>();
  // Greedy unless asked otherwise: the same command gives the same text.
  config->generation.sampling.temperature = 0;
  CLI::App* command =
      add_command(app, outcome, "generate", "Complete a prompt", [config] { return run_generate(*config); });
  add_model_flags(*command, config->model);
  add_engine_memory_flag(*command, config->model);
  command->add_option("--prompt", config->prompt,
                      "Text to continue, without a chat template (special tokens in it are recognised)");
  command->add_option("--messages", config->messages,
                      "JSON file of chat messages (an array, or an object with messages, tools, "
                      "chat_template_kwargs); - reads standard input");
  command->add_option("--prompt-ids", config->prompt_ids, "Token ids to continue, such as 5,9,12");
  add_generation_flags(*command, config->generation);
  command->add_option("--logprobs", config->generation.top_logprobs,
                      "Number of most probable tokens whose logprobs --json reports at each position");
  command->add_flag("--json", config->json,
                    "Print one JSON object (text, token ids, usage, logprobs) instead of the text");
}

}  // namespace nemoforge::cli
