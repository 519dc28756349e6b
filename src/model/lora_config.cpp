#include "model/lora_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include <nlohmann/json.hpp>

namespace nemoforge::model {
namespace {

using io::Json;

constexpr int64_t kMaxRank = int64_t{1} << 16;

// Options that change what an adapter computes, in ways that are not implemented; falsy values are off.
constexpr std::array kUnsupportedOptions = {
    "use_dora",        "use_qalora",        "lora_bias",         "fan_in_fan_out",
    "modules_to_save", "layer_replication", "use_bdlora",        "alora_invocation_tokens",
    "arrow_config",    "kasa_config",       "monteclora_config", "trainable_token_indices"};

// Ways of initialising that leave the base weights as they are; the others (PiSSA, OLoRA, LoftQ, ...) train
// against a changed base, which the adapter alone does not tell.
constexpr std::array kInitialisationsOnTheBase = {"gaussian", "eva", "orthogonal"};

bool is_off(const Json& value) {
  return value.is_null() || value == Json(false) || (value.is_structured() && value.empty());
}

tl::unexpected<Error> unsupported(const std::string& option, const Json& value) {
  return error(ErrorCode::kUnsupported,
               option + " is " + io::dump_json(value) + ", which nemoforge does not implement");
}

Status check_options(const Json& json) {
  if (json.value("peft_type", Json()) != Json("LORA")) {
    return unsupported("peft_type", json.value("peft_type", Json()));
  }
  for (const char* option : kUnsupportedOptions) {
    const auto found = json.find(option);
    if (found != json.end() && !is_off(*found)) return unsupported(option, *found);
  }
  const Json bias = json.value("bias", Json("none"));
  if (bias != Json("none")) return unsupported("bias", bias);
  const Json init = json.value("init_lora_weights", Json(true));
  const bool known =
      !init.is_string() || std::any_of(kInitialisationsOnTheBase.begin(), kInitialisationsOnTheBase.end(),
                                       [&](const char* name) { return init == Json(name); });
  if (!known) {
    auto failure = unsupported("init_lora_weights", init);
    failure.value().hint =
        "convert the adapter to plain LoRA when saving it (PEFT's path_initial_model_for_weight_conversion)";
    return failure;
  }
  return {};
}

std::optional<double> as_positive(const Json& value) {
  if (!value.is_number()) return std::nullopt;
  const auto number = value.get<double>();
  if (!std::isfinite(number) || number <= 0) return std::nullopt;
  return number;
}

std::optional<int64_t> as_rank(const Json& value) {
  if (!value.is_number_integer() || value < 1 || value > kMaxRank) return std::nullopt;
  return value.get<int64_t>();
}

// PEFT takes patterns as regular expressions; those in use are module names, perhaps with an anchor or
// escaped dots. Anything else is refused rather than guessed.
Result<std::string> plain_pattern(const std::string& field, const std::string& pattern) {
  std::string plain;
  for (size_t i = 0; i < pattern.size(); ++i) {
    char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size() && pattern[i + 1] == '.') c = pattern[++i];
    const bool is_name = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.';
    if (!is_name && !(c == '^' && i == 0)) {
      return error(ErrorCode::kUnsupported,
                   field + " has the key \"" + pattern +
                       "\": regular expressions are not implemented, only module names");
    }
    plain.push_back(c);
  }
  return plain;
}

template <typename Value, typename Read>
Result<std::vector<std::pair<std::string, Value>>> read_pattern(const Json& json, const std::string& field,
                                                                Read read) {
  std::vector<std::pair<std::string, Value>> patterns;
  const auto found = json.find(field);
  if (found == json.end() || found->is_null()) return patterns;
  if (!found->is_object()) return error(ErrorCode::kInvalidData, field + " is not an object");
  for (const auto& [key, item] : found->items()) {
    NF_TRY(std::string pattern, plain_pattern(field, key));
    const std::optional<Value> value = read(item);
    if (!value) {
      return error(ErrorCode::kInvalidData, field + " of \"" + key + "\" is " + io::dump_json(item));
    }
    patterns.emplace_back(std::move(pattern), *value);
  }
  return patterns;
}

bool matches(std::string_view pattern, std::string_view module) {
  if (pattern.starts_with('^')) return module == pattern.substr(1);
  return module == pattern ||
         (module.ends_with(pattern) && module[module.size() - pattern.size() - 1] == '.');
}

template <typename Value>
Value value_of(const std::vector<std::pair<std::string, Value>>& patterns, std::string_view module,
               Value otherwise) {
  for (const auto& [pattern, value] : patterns) {
    if (matches(pattern, module)) return value;
  }
  return otherwise;
}

}  // namespace

int64_t LoraConfig::rank_of(std::string_view module) const {
  return value_of(rank_pattern, module, r);
}

double LoraConfig::alpha_of(std::string_view module) const {
  return value_of(alpha_pattern, module, lora_alpha);
}

float LoraConfig::scale_of(std::string_view module) const {
  const auto rank = static_cast<double>(rank_of(module));
  return static_cast<float>(alpha_of(module) / (use_rslora ? std::sqrt(rank) : rank));
}

Result<LoraConfig> parse_lora_config(const Json& json) {
  if (!json.is_object()) return error(ErrorCode::kInvalidData, "not a JSON object");
  NF_RETURN_IF_ERROR(check_options(json));
  LoraConfig config;
  const Json rank = json.value("r", Json());
  if (!as_rank(rank)) {
    return error(ErrorCode::kInvalidData, "r is " + io::dump_json(rank) + ", not a positive integer");
  }
  config.r = *as_rank(rank);
  const Json alpha = json.value("lora_alpha", Json());
  if (!as_positive(alpha)) {
    return error(ErrorCode::kInvalidData,
                 "lora_alpha is " + io::dump_json(alpha) + ", not a positive number");
  }
  config.lora_alpha = *as_positive(alpha);
  const Json rslora = json.value("use_rslora", Json(false));
  if (!rslora.is_boolean() && !rslora.is_null()) {
    return error(ErrorCode::kInvalidData, "use_rslora is " + io::dump_json(rslora));
  }
  config.use_rslora = rslora == Json(true);
  NF_TRY(config.rank_pattern, read_pattern<int64_t>(json, "rank_pattern", as_rank));
  NF_TRY(config.alpha_pattern, read_pattern<double>(json, "alpha_pattern", as_positive));
  const Json parameters = json.value("target_parameters", Json());
  if (parameters.is_array()) {
    for (const Json& item : parameters) {
      if (item.is_string()) config.target_parameters.push_back(item.get<std::string>());
    }
  }
  return config;
}

}  // namespace nemoforge::model
