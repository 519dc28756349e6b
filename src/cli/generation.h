// What generate and chat share: the flags of sampling, and an engine with its model, tokenizer and template.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/loaded_model.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "text/tokenizer/tokenizer.h"

namespace CLI {
class App;
}

namespace nemoforge::cli {

// The sampling parameters of a request as flags.
struct GenerationFlags {
  sampling::SamplingParams sampling;
  std::optional<uint64_t> seed;
  std::optional<int32_t> max_tokens;
  std::optional<int32_t> top_logprobs;
  std::optional<int32_t> reasoning_budget;
  std::vector<std::string> stop;
  std::vector<std::string> logit_bias;  // "ID=BIAS"
};

void add_generation_flags(CLI::App& command, GenerationFlags& flags);

// Throws CLI::ValidationError for values that no request may have, before anything is loaded.
void check_generation_flags(const GenerationFlags& flags);

// kInvalidArgument for a --logit-bias that is not ID=BIAS.
[[nodiscard]] Result<engine::Request> make_request(const GenerationFlags& flags,
                                                   std::vector<int32_t> prompt_token_ids,
                                                   std::shared_ptr<const model::LoraAdapter> adapter);

// Everything that turns text into text. The engine points into the other parts, which are declared, so
// destroyed, around it in the right order.
struct Generator {
  LoadedModel loaded;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::unique_ptr<engine::Engine> engine;
};

[[nodiscard]] Result<Generator> make_generator(const ModelFlags& flags, const engine::EngineConfig& config);

}  // namespace nemoforge::cli
