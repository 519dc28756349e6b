// adapter_config.json of a PEFT LoRA adapter.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/json.h"

namespace nemoforge::model {

// Ranks and scales may differ by module: a pattern is a module's dotted name or the end of one.
struct LoraConfig {
  int64_t r = 0;
  double lora_alpha = 0;
  bool use_rslora = false;
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::vector<std::string> target_parameters;

  // Of a module, by its name in the base model: the first pattern that matches, else r or lora_alpha.
  [[nodiscard]] int64_t rank_of(std::string_view module) const;
  [[nodiscard]] double alpha_of(std::string_view module) const;
  // alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRA.
  [[nodiscard]] float scale_of(std::string_view module) const;
};

// kInvalidData for a missing or mistyped field, kUnsupported for an option that changes the mathematics and
// is not implemented (DoRA, biases, saved modules, ...). The message names the field.
[[nodiscard]] Result<LoraConfig> parse_lora_config(const io::Json& json);

}  // namespace nemoforge::model
