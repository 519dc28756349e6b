#include "model/config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/check.h"

namespace nemoforge::model {
namespace {

using io::Json;

// No checkpoint of the family comes near these; with them every product of sizes stays far below 2^63.
constexpr int64_t kMaxVocabSize = int64_t{1} << 24;
constexpr int64_t kMaxChannels = int64_t{1} << 20;  // hidden and intermediate sizes
constexpr int64_t kMaxHeads = int64_t{1} << 14;
constexpr int64_t kMaxHeadDim = int64_t{1} << 12;
constexpr int64_t kMaxExperts = int64_t{1} << 14;
constexpr int64_t kMaxLayers = int64_t{1} << 12;
constexpr int64_t kMaxPositions = int64_t{1} << 40;
constexpr int64_t kMaxTokenId = kMaxVocabSize;

struct LayerKindName {
  LayerKind kind;
  char letter;
  std::array<std::string_view, 2> names;  // of layers_block_type: the hub's, and transformers 5's
};
constexpr std::array kLayerKinds = {
    LayerKindName{LayerKind::kMamba, 'M', {"mamba", "linear_attention"}},
    LayerKindName{LayerKind::kMoe, 'E', {"moe", "moe"}},
    LayerKindName{LayerKind::kAttention, '*', {"attention", "full_attention"}},
    LayerKindName{LayerKind::kMlp, '-', {"mlp", "mlp"}},
};

// A value as a short text for messages.
std::string shown(const Json& value) {
  constexpr size_t kMaxShown = 60;
  std::string text;
  if (value.is_array()) {
    for (const Json& item : value) {
      if (text.size() > kMaxShown) break;
      text += (text.empty() ? "[" : ",") + shown(item);
    }
    text += text.empty() ? "[]" : "]";
  } else if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const auto number = value.get<double>();  // JSON has no word for these
    text = std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity";
  } else {
    text = io::dump_json(value);
  }
  if (text.size() > kMaxShown) {
    size_t end = kMaxShown;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // whole code points
    text = text.substr(0, end) + "...";
  }
  return text;
}

// Reads fields of config.json. The first failure is kept and makes the rest irrelevant, so that the reading
// code is a list of fields.
class FieldReader {
 public:
  explicit FieldReader(const Json& object) : object_(object) {}

  // The value of the first name that is present and not null. Names are aliases: two that are present must
  // agree.
  const Json* find(std::initializer_list<const char*> names) {
    const Json* value = nullptr;
    const char* value_name = nullptr;
    for (const char* name : names) {
      const auto found = object_.find(name);
      if (found == object_.end() || found->is_null()) continue;
      if (value != nullptr && *value != *found) {
        fail(ErrorCode::kInvalidData, std::string(value_name) + " is " + shown(*value) + ", but " + name +
                                          ", another name of it, is " + shown(*found));
      }
      if (value == nullptr) {
        value = &*found;
        value_name = name;
      }
    }
    return value;
  }

  int64_t integer(std::initializer_list<const char*> names, int64_t min, int64_t max,
                  std::optional<int64_t> absent = std::nullopt) {
    const Json* value = find(names);
    const char* name = *names.begin();
    if (value == nullptr) {
      if (!absent) fail(ErrorCode::kInvalidData, std::string(name) + " is missing");
      return absent.value_or(min);
    }
    const bool in_range =
        value->is_number_integer() &&
        (!value->is_number_unsigned() || value->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)) &&
        value->get<int64_t>() >= min && value->get<int64_t>() <= max;
    if (!in_range) {
      fail(ErrorCode::kInvalidData, std::string(name) + " is " + shown(*value) + ", not an integer from " +
                                        std::to_string(min) + " to " + std::to_string(max));
      return min;
    }
    return value->get<int64_t>();
  }

  bool flag(std::initializer_list<const char*> names, bool absent) {
    const Json* value = find(names);
    if (value == nullptr) return absent;
    if (!value->is_boolean()) {
      fail(ErrorCode::kInvalidData,
           std::string(*names.begin()) + " is " + shown(*value) + ", not true or false");
      return absent;
    }
    return value->get<bool>();
  }

  // A finite number above zero.
  float positive(std::initializer_list<const char*> names, float absent) {
    const Json* value = find(names);
    if (value == nullptr) return absent;
    const float number = value->is_number() ? static_cast<float>(value->get<double>()) : 0.0f;
    if (!std::isfinite(number) || number <= 0) {
      fail(ErrorCode::kInvalidData,
           std::string(*names.begin()) + " is " + shown(*value) + ", not a finite number above zero");
      return absent;
    }
    return number;
  }

  // A field that must be absent, null, or `only`.
  void require_only(const char* name, const Json& only) {
    const Json* value = find({name});
    if (value == nullptr || *value == only) return;
    fail(ErrorCode::kUnsupported, std::string(name) + " is " + shown(*value) +
                                      ", which nemoforge does not implement (only " + shown(only) + ")");
  }

  void fail(ErrorCode code, std::string message) {
    if (!failure_) failure_ = Error{code, std::move(message), {}};
  }
  // An invariant between fields that have been read.
  void require(bool condition, const std::string& message) {
    if (!condition) fail(ErrorCode::kInvalidData, message);
  }

  [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }

 private:
  const Json& object_;
  std::optional<Error> failure_;
};

std::optional<std::vector<LayerKind>> layers_of_pattern(FieldReader& reader) {
  const Json* value = reader.find({"hybrid_override_pattern"});
  if (value == nullptr) return std::nullopt;
  std::vector<LayerKind> layers;
  if (!value->is_string()) {
    reader.fail(ErrorCode::kInvalidData, "hybrid_override_pattern is " + shown(*value) + ", not a string");
    return layers;
  }
  for (const char letter : value->get_ref<const std::string&>()) {
    const auto* found = std::find_if(kLayerKinds.begin(), kLayerKinds.end(),
                                     [&](const LayerKindName& kind) { return kind.letter == letter; });
    if (found == kLayerKinds.end()) {
      reader.fail(ErrorCode::kInvalidData, "hybrid_override_pattern is " + shown(*value) +
                                               ", which has letters other than M, E, * and -");
      return layers;
    }
    layers.push_back(found->kind);
  }
  return layers;
}

std::optional<std::vector<LayerKind>> layers_of_list(FieldReader& reader) {
  const Json* value = reader.find({"layers_block_type", "layer_types"});
  if (value == nullptr) return std::nullopt;
  std::vector<LayerKind> layers;
  if (!value->is_array()) {
    reader.fail(ErrorCode::kInvalidData, "layers_block_type is " + shown(*value) + ", not a list");
    return layers;
  }
  for (const Json& item : *value) {
    const auto* found = std::find_if(kLayerKinds.begin(), kLayerKinds.end(), [&](const LayerKindName& kind) {
      return item.is_string() && (item == kind.names[0] || item == kind.names[1]);
    });
    if (found == kLayerKinds.end()) {
      reader.fail(ErrorCode::kInvalidData,
                  "layers_block_type holds " + shown(item) + ", not one of mamba, moe, attention, mlp");
      return layers;
    }
    layers.push_back(found->kind);
  }
  return layers;
}

void read_layers(FieldReader& reader, ModelConfig& config) {
  const auto pattern = layers_of_pattern(reader);
  const auto list = layers_of_list(reader);
  if (!pattern && !list) {
    reader.fail(ErrorCode::kInvalidData, "hybrid_override_pattern and layers_block_type are both missing");
    return;
  }
  reader.require(!pattern || !list || *pattern == *list,
                 "hybrid_override_pattern and layers_block_type say different layers");
  config.layers = pattern ? *pattern : *list;
  const auto count = static_cast<int64_t>(config.layers.size());
  reader.require(count >= 1 && count <= kMaxLayers,
                 "there are " + std::to_string(count) + " layers, not 1 to " + std::to_string(kMaxLayers));
  const int64_t said = reader.integer({"num_hidden_layers"}, 0, kMaxLayers, count);
  reader.require(said == count, "num_hidden_layers is " + std::to_string(said) + ", but the pattern has " +
                                    std::to_string(count) + " layers");
}

// [0, inf] as Python writes it: bare Infinity, or {"__float__": "Infinity"} from transformers 5.
void check_time_step_limit(FieldReader& reader) {
  const Json* value = reader.find({"time_step_limit", "mamba_dt_limit"});
  if (value == nullptr) return;
  const auto is_infinity = [](const Json& item) {
    if (item.is_object()) return item.size() == 1 && item.value("__float__", Json()) == Json("Infinity");
    return item.is_number() && item.get<double>() == INFINITY;
  };
  const bool unlimited = value->is_array() && value->size() == 2 && (*value)[0].is_number() &&
                         (*value)[0].get<double>() == 0 && is_infinity((*value)[1]);
  if (unlimited) return;
  reader.fail(ErrorCode::kUnsupported, "time_step_limit is " + shown(*value) +
                                           ", which nemoforge does not implement (only [0, Infinity])");
}

void read_mamba(FieldReader& reader, ModelConfig& config) {
  config.mamba_num_heads = reader.integer({"mamba_num_heads"}, 1, kMaxHeads);
  config.mamba_head_dim = reader.integer({"mamba_head_dim"}, 1, kMaxHeadDim);
  config.n_groups = reader.integer({"n_groups", "mamba_n_groups"}, 1, kMaxHeads);
  config.ssm_state_size = reader.integer({"ssm_state_size"}, 1, kMaxHeadDim);
  config.conv_kernel = reader.integer({"conv_kernel", "mamba_d_conv"}, 2, 8);
  config.chunk_size = reader.integer({"chunk_size", "mamba_chunk_size"}, 1, kMaxHeadDim);
  config.use_bias = reader.flag({"use_bias"}, false);
  config.use_conv_bias = reader.flag({"use_conv_bias", "mamba_conv_bias"}, true);
  reader.require(config.mamba_num_heads % config.n_groups == 0,
                 "mamba_num_heads is " + std::to_string(config.mamba_num_heads) +
                     ", which is not a multiple of n_groups, " + std::to_string(config.n_groups));
  reader.require_only("mamba_hidden_act", "silu");
  // transformers reads use_bias alone.
  if (!config.use_bias) reader.require_only("mamba_proj_bias", false);
  check_time_step_limit(reader);
}

void read_attention(FieldReader& reader, ModelConfig& config) {
  config.num_attention_heads = reader.integer({"num_attention_heads"}, 1, kMaxHeads);
  config.num_key_value_heads =
      reader.integer({"num_key_value_heads"}, 1, kMaxHeads, config.num_attention_heads);
  config.head_dim = reader.integer({"head_dim", "attention_head_dim"}, 1, kMaxHeadDim);
  config.attention_bias = reader.flag({"attention_bias"}, false);
  reader.require(config.num_attention_heads % config.num_key_value_heads == 0,
                 "num_attention_heads is " + std::to_string(config.num_attention_heads) +
                     ", which is not a multiple of num_key_value_heads, " +
                     std::to_string(config.num_key_value_heads));
  reader.require_only("sliding_window", nullptr);
}

void read_moe(FieldReader& reader, ModelConfig& config) {
  config.n_routed_experts = reader.integer({"n_routed_experts", "num_local_experts"}, 1, kMaxExperts);
  config.num_experts_per_tok = reader.integer({"num_experts_per_tok"}, 1, config.n_routed_experts);
  config.moe_intermediate_size = reader.integer({"moe_intermediate_size"}, 1, kMaxChannels);
  config.moe_shared_expert_intermediate_size =
      reader.integer({"moe_shared_expert_intermediate_size"}, 1, kMaxChannels);
  config.n_group = reader.integer({"n_group"}, 1, config.n_routed_experts, 1);
  config.topk_group = reader.integer({"topk_group"}, 1, config.n_group, 1);
  config.norm_topk_prob = reader.flag({"norm_topk_prob"}, true);
  config.routed_scaling_factor = reader.positive({"routed_scaling_factor"}, 1.0f);
  reader.require_only("n_shared_experts", 1);
  const Json* latent = reader.find({"moe_latent_size"});
  if (latent != nullptr) {
    reader.fail(ErrorCode::kUnsupported,
                "moe_latent_size is " + shown(*latent) + ", which nemoforge does not implement (only null)");
  }
  if (reader.failure()) return;
  const int64_t group_size = config.n_routed_experts / config.n_group;
  reader.require(config.n_routed_experts % config.n_group == 0 && (config.n_group == 1 || group_size >= 2),
                 "n_routed_experts is " + std::to_string(config.n_routed_experts) +
                     ", which does not make groups of at least two for n_group, " +
                     std::to_string(config.n_group));
  reader.require(config.num_experts_per_tok <= config.topk_group * group_size,
                 "num_experts_per_tok is " + std::to_string(config.num_experts_per_tok) +
                     ", more than the experts of topk_group, " + std::to_string(config.topk_group) +
                     ", groups");
}

void read_mlp(FieldReader& reader, ModelConfig& config) {
  config.intermediate_size = reader.integer({"intermediate_size"}, 1, kMaxChannels);
}

// null, an id, or a list of ids.
std::vector<int64_t> read_token_ids(FieldReader& reader, const char* name) {
  std::vector<int64_t> ids;
  const Json* value = reader.find({name});
  if (value == nullptr) return ids;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& item : list) {
    const bool valid = item.is_number_integer() && item >= 0 && item <= kMaxTokenId;
    if (!valid) {
      reader.fail(ErrorCode::kInvalidData,
                  std::string(name) + " is " + shown(*value) + ", not a token id or a list of them");
      return ids;
    }
    ids.push_back(item.get<int64_t>());
  }
  return ids;
}

void check_model_type(FieldReader& reader) {
  const Json* value = reader.find({"model_type"});
  if (value != nullptr && *value == "nemotron_h") return;
  reader.fail(ErrorCode::kUnsupported, "model_type is " + (value == nullptr ? "missing" : shown(*value)) +
                                           ", nemoforge runs \"nemotron_h\"");
}

Result<io::Json> parse_config_text(std::string_view text) {
  return io::parse_json(text, {.allow_non_finite = true});
}

tl::unexpected<Error> in_file(const std::string& path, const Error& failure) {
  return error(failure.code, path + ": " + failure.message, failure.hint);
}

// The eos tokens of generation_config.json; nothing where the file or the field is absent.
Result<std::vector<int64_t>> generation_eos(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::vector<int64_t>{};
  NF_TRY(const Json json, io::read_json_file(path, {.allow_non_finite = true}));
  if (!json.is_object()) return error(ErrorCode::kInvalidData, path + ": not a JSON object");
  FieldReader reader(json);
  std::vector<int64_t> ids = read_token_ids(reader, "eos_token_id");
  if (reader.failure()) return in_file(path, *reader.failure());
  return ids;
}

}  // namespace

char layer_kind_letter(LayerKind kind) {
  for (const LayerKindName& name : kLayerKinds) {
    if (name.kind == kind) return name.letter;
  }
  NF_CHECK(false) << static_cast<int>(kind);
  return ' ';
}

bool ModelConfig::has_layer(LayerKind kind) const {
  return num_layers(kind) > 0;
}

int64_t ModelConfig::num_layers(LayerKind kind) const {
  return std::count(layers.begin(), layers.end(), kind);
}

std::string ModelConfig::pattern() const {
  std::string letters;
  for (const LayerKind kind : layers) letters += layer_kind_letter(kind);
  return letters;
}

Result<ModelConfig> parse_model_config(const Json& json) {
  if (!json.is_object()) return error(ErrorCode::kInvalidData, "not a JSON object");
  FieldReader reader(json);
  ModelConfig config;
  check_model_type(reader);
  config.vocab_size = reader.integer({"vocab_size"}, 1, kMaxVocabSize);
  config.hidden_size = reader.integer({"hidden_size"}, 1, kMaxChannels);
  config.layer_norm_epsilon = reader.positive({"layer_norm_epsilon", "norm_eps"}, 1e-5f);
  config.tie_word_embeddings = reader.flag({"tie_word_embeddings"}, false);
  config.max_position_embeddings = reader.integer({"max_position_embeddings"}, 1, kMaxPositions, 4096);
  config.mlp_bias = reader.flag({"mlp_bias"}, false);
  reader.require_only("mlp_hidden_act", "relu2");
  // Names the format in place of the first tensor that does not fit.
  reader.require_only("quantization_config", nullptr);
  read_layers(reader, config);
  if (config.has_layer(LayerKind::kMamba)) read_mamba(reader, config);
  if (config.has_layer(LayerKind::kAttention)) read_attention(reader, config);
  if (config.has_layer(LayerKind::kMoe)) read_moe(reader, config);
  if (config.has_layer(LayerKind::kMlp)) read_mlp(reader, config);
  config.bos_token_id = reader.integer({"bos_token_id"}, 0, kMaxTokenId, -1);
  config.pad_token_id = reader.integer({"pad_token_id"}, 0, kMaxTokenId, -1);
  config.eos_token_ids = read_token_ids(reader, "eos_token_id");
  if (reader.failure()) return tl::unexpected<Error>(*reader.failure());
  return config;
}

Result<ModelConfig> parse_model_config(std::string_view text) {
  NF_TRY(const Json json, parse_config_text(text));
  return parse_model_config(json);
}

Result<ModelConfig> load_model_config(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "config.json").string();
  NF_TRY(const Json json, io::read_json_file(path, {.allow_non_finite = true}));
  auto config = parse_model_config(json);
  if (!config) return in_file(path, config.error());
  const auto generation = std::filesystem::path(folder) / "generation_config.json";
  NF_TRY(std::vector<int64_t> eos, generation_eos(generation.string()));
  if (!eos.empty()) config->eos_token_ids = std::move(eos);
  return config;
}

}  // namespace nemoforge::model
