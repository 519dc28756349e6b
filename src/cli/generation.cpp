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
                  "Most tokens of the completion (default: what the context leaves)")
      ->check(CLI::PositiveNumber);
  command.add_option("--temperature", sampling.temperature, "0: always the most probable token")
      ->capture_default_str();
  command.add_option("--top-p", sampling.top_p, "Smallest set of tokens whose probability reaches this")
      ->capture_default_str();
  command.add_option("--top-k", sampling.top_k, "The k most probable tokens; 0: all")->capture_default_str();
  command
      .add_option("--min-p", sampling.min_p, "Tokens at least this probable, relative to the most probable")
      ->capture_default_str();
  command.add_option("--repetition-penalty", sampling.repetition_penalty, "1: none")->capture_default_str();
  command.add_option("--presence-penalty", sampling.presence_penalty, "-2 to 2")->capture_default_str();
  command.add_option("--frequency-penalty", sampling.frequency_penalty, "-2 to 2")->capture_default_str();
  command.add_option("--seed", flags.seed, "Same seed, same completion (default: a new one each time)");
  command.add_option("--stop", flags.stop, "End the completion before this string; may be given again");
  command.add_option("--logit-bias", flags.logit_bias, "TOKEN_ID=BIAS, -100 to 100; may be given again");
  command.add_option("--logprobs", flags.top_logprobs,
                     "Report logprobs, and those of so many most probable tokens (with --json)");
  command.add_option("--min-tokens", sampling.min_tokens, "No end before so many tokens")
      ->capture_default_str();
  command.add_flag("--ignore-eos", sampling.ignore_eos, "End-of-sequence tokens do not end the completion");
  command
      .add_option("--reasoning-budget", flags.reasoning_budget, "Most tokens of the thought before </think>")
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
  // <think> and </think> are special tokens in some vocabularies, and the split of the thought needs them.
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
