#include "cli/generation.h"

#include <charconv>
#include <limits>
#include <utility>

#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace nemoforge::cli {
namespace {

Result<std::pair<int32_t, float>> parse_logit_bias(const std::string& text) {
  const size_t equals = text.find('=');
  int32_t token_id = 0;
  float bias = 0;
  const char* end = text.data() + text.size();
  if (equals != std::string::npos) {
    const char* middle = text.data() + equals;
    const auto [id_end, id_error] = std::from_chars(text.data(), middle, token_id);
    const auto [bias_end, bias_error] = std::from_chars(middle + 1, end, bias);
    if (id_error == std::errc() && id_end == middle && bias_error == std::errc() && bias_end == end) {
      return std::pair(token_id, bias);
    }
  }
  return error(ErrorCode::kInvalidArgument, "--logit-bias expects TOKEN_ID=BIAS, got '" + text + "'");
}

}  // namespace

void add_generation_flags(CLI::App& command, GenerationFlags& flags) {
  sampling::SamplingParams& sampling = flags.sampling;
  command
      .add_option("--max-tokens", flags.max_tokens,
                  "Maximum number of tokens of the completion (default: the rest of the context)")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--temperature", sampling.temperature,
                  "Sampling temperature; 0: always the most probable token")
      ->capture_default_str();
  command
      .add_option("--top-p", sampling.top_p,
                  "Sample from the smallest set of tokens whose total probability reaches this")
      ->capture_default_str();
  command.add_option("--top-k", sampling.top_k, "Sample from the k most probable tokens; 0: from all")
      ->capture_default_str();
  command
      .add_option("--min-p", sampling.min_p,
                  "Minimum probability of a token, relative to the most probable one")
      ->capture_default_str();
  command.add_option("--repetition-penalty", sampling.repetition_penalty, "Repetition penalty; 1: none")
      ->capture_default_str();
  command.add_option("--presence-penalty", sampling.presence_penalty, "Presence penalty, -2 to 2")
      ->capture_default_str();
  command.add_option("--frequency-penalty", sampling.frequency_penalty, "Frequency penalty, -2 to 2")
      ->capture_default_str();
  command.add_option("--seed", flags.seed,
                     "Seed of the sampling; the same seed gives the same completion (default: random)");
  command.add_option("--stop", flags.stop, "String before which the completion ends; repeatable");
  command.add_option("--logit-bias", flags.logit_bias,
                     "Bias on a token's logit as TOKEN_ID=BIAS, -100 to 100; repeatable");
  command.add_option("--min-tokens", sampling.min_tokens, "Minimum number of tokens of the completion")
      ->capture_default_str();
  command.add_flag("--ignore-eos", sampling.ignore_eos, "Continue past end-of-sequence tokens");
  command
      .add_option("--reasoning-budget", flags.reasoning_budget,
                  "Maximum number of reasoning tokens before </think>")
      ->check(CLI::NonNegativeNumber);
}

void check_generation_flags(const GenerationFlags& flags) {
  const auto request = make_request(flags, {}, nullptr);
  if (!request) throw CLI::ValidationError("--logit-bias", request.error().message);
  check_flag("sampling", sampling::validate(request->sampling, std::numeric_limits<int32_t>::max()));
  for (const std::string& stop : flags.stop) {
    if (stop.empty()) throw CLI::ValidationError("--stop", "a stop string must not be empty");
  }
}

Result<engine::Request> make_request(const GenerationFlags& flags, std::vector<int32_t> prompt_token_ids,
                                     std::shared_ptr<const model::LoraAdapter> adapter) {
  engine::Request request;
  request.prompt_token_ids = std::move(prompt_token_ids);
  request.sampling = flags.sampling;
  request.sampling.seed = flags.seed;
  request.sampling.top_logprobs = flags.top_logprobs;
  for (const std::string& text : flags.logit_bias) {
    NF_TRY(const auto bias, parse_logit_bias(text));
    request.sampling.logit_bias.push_back(bias);
  }
  request.max_tokens = flags.max_tokens;
  request.stop = flags.stop;
  // <think> and </think> are special tokens in some vocabularies, and splitting off the reasoning needs them.
  request.skip_special_tokens = false;
  request.adapter = std::move(adapter);
  if (flags.reasoning_budget)
    request.thinking_budget = engine::ThinkingBudget{.max_tokens = *flags.reasoning_budget};
  return request;
}

Result<Generator> make_generator(const ModelFlags& flags, const engine::EngineConfig& limits) {
  engine::EngineConfig config = limits;
  config.gpu_memory_utilization = flags.gpu_memory_utilization;
  Generator generator;
  NF_TRY(text::Tokenizer tokenizer, text::Tokenizer::load(flags.model));
  generator.tokenizer = std::make_unique<text::Tokenizer>(std::move(tokenizer));
  NF_TRY(generator.loaded, load_model(flags));
  NF_TRY(generator.engine,
         engine::Engine::create(*generator.loaded.model, generator.tokenizer.get(), config));
  return generator;
}

}  // namespace nemoforge::cli
