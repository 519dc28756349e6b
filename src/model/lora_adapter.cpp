#include "model/lora_adapter.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/log.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "model/convert.h"
#include "model/lora_config.h"

namespace nemoforge::model {
namespace {

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kOtherModelHint =
    "the adapter may be made for another model: see base_model_name_or_path in its adapter_config.json";
constexpr const char* kTensorFile = "adapter_model.safetensors";

// A linear layer that an adapter can change: what it is called, in which kind of layer, from how many
// features to how many.
struct TargetInfo {
  LoraTarget target;
  LayerKind kind;
  std::string_view module;  // after "layers.N."; experts without their number
  int64_t in_features;
  int64_t out_features;
};

std::vector<TargetInfo> targets_of(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t shared = config.moe_shared_expert_intermediate_size;
  const int64_t expert = config.moe_intermediate_size;
  using enum LoraTarget;
  return {
      {kInProj, LayerKind::kMamba, "mixer.in_proj", hidden, config.mamba_projection_size()},
      {kOutProj, LayerKind::kMamba, "mixer.out_proj", config.mamba_intermediate_size(), hidden},
      {kQProj, LayerKind::kAttention, "mixer.q_proj", hidden, config.q_size()},
      {kKProj, LayerKind::kAttention, "mixer.k_proj", hidden, config.kv_size()},
      {kVProj, LayerKind::kAttention, "mixer.v_proj", hidden, config.kv_size()},
      {kOProj, LayerKind::kAttention, "mixer.o_proj", config.q_size(), hidden},
      {kUpProj, LayerKind::kMlp, "mixer.up_proj", hidden, config.intermediate_size},
      {kDownProj, LayerKind::kMlp, "mixer.down_proj", config.intermediate_size, hidden},
      {kSharedUpProj, LayerKind::kMoe, "mixer.shared_experts.up_proj", hidden, shared},
      {kSharedDownProj, LayerKind::kMoe, "mixer.shared_experts.down_proj", shared, hidden},
      {kExpertUpProj, LayerKind::kMoe, "mixer.experts.up_proj", hidden, expert},
      {kExpertDownProj, LayerKind::kMoe, "mixer.experts.down_proj", expert, hidden},
  };
}

// "layers.3.mixer.experts.7.up_proj" -> 3, "mixer.experts.up_proj", expert 7.
struct ModuleName {
  int64_t layer_idx = 0;
  std::string module;
  std::optional<int64_t> expert;
};

std::optional<int64_t> parse_index(std::string_view text) {
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

// Takes the text up to the next dot, and the dot.
std::string_view take_component(std::string_view& rest) {
  const size_t dot = rest.find('.');
  const std::string_view component = rest.substr(0, dot);
  rest = dot == std::string_view::npos ? std::string_view() : rest.substr(dot + 1);
  return component;
}

std::optional<ModuleName> parse_module(std::string_view name) {
  for (const std::string_view prefix : {"backbone.", "model."}) {
    if (name.starts_with(prefix)) {
      name.remove_prefix(prefix.size());
      break;
    }
  }
  if (take_component(name) != "layers") return std::nullopt;
  const auto layer_idx = parse_index(take_component(name));
  if (!layer_idx) return std::nullopt;
  ModuleName result{.layer_idx = *layer_idx, .module = std::string(name), .expert = std::nullopt};
  constexpr std::string_view kExperts = "mixer.experts.";
  if (name.starts_with(kExperts)) {
    std::string_view rest = name.substr(kExperts.size());
    const auto expert = parse_index(take_component(rest));
    if (expert) {
      result.expert = expert;
      result.module = std::string(kExperts) + std::string(rest);
    }
  }
  return result;
}

}  // namespace

// Reads one adapter folder.
class LoraReader {
 public:
  LoraReader(const std::string& folder, const ModelConfig& config, ops::Backend& backend)
      : config_path_((std::filesystem::path(folder) / kConfigFile).string()),
        tensor_path_((std::filesystem::path(folder) / kTensorFile).string()),
        config_(config),
        backend_(backend),
        targets_(targets_of(config)) {}

  Result<LoraAdapter> read() {
    NF_TRY(const io::Json json, io::read_json_file(config_path_, {.allow_non_finite = true}));
    auto lora = parse_lora_config(json);
    if (!lora) return error(lora.error().code, config_path_ + ": " + lora.error().message, lora.error().hint);
    lora_ = std::move(*lora);
    NF_TRY(const io::SafetensorsFile file, io::SafetensorsFile::open(tensor_path_));
    NF_RETURN_IF_ERROR(collect_pairs(file));
    adapter_.layers_.resize(config_.layers.size());
    for (const auto& [module, pair] : pairs_) NF_RETURN_IF_ERROR(add_pair(module, pair));
    return std::move(adapter_);
  }

 private:
  struct Pair {
    ConstTensorView a;
    ConstTensorView b;
    std::string a_name;
    std::string b_name;
  };

  tl::unexpected<Error> failure(ErrorCode code, const std::string& tensor, const std::string& message) const {
    return error(code, tensor_path_ + ": tensor \"" + tensor + "\" " + message);
  }
  tl::unexpected<Error> no_place(const std::string& tensor) const {
    return error(
        ErrorCode::kInvalidData,
        tensor_path_ + ": tensor \"" + tensor + "\" matches no linear layer that nemoforge can adapt",
        kOtherModelHint);
  }
  tl::unexpected<Error> adapted_twice(const std::string& tensor) const {
    return failure(ErrorCode::kInvalidData, tensor,
                   "adapts a layer that another tensor of the file adapts too");
  }

  // Tensors by module; "base_model.model." and ".lora_A.weight" come off.
  Status collect_pairs(const io::SafetensorsFile& file) {
    constexpr std::string_view kPrefix = "base_model.model.";
    constexpr std::string_view kSuffixA = ".lora_A.weight";
    constexpr std::string_view kSuffixB = ".lora_B.weight";
    for (const auto& [name, tensor] : file.tensors()) {
      std::string_view module = name;
      if (module.starts_with(kPrefix)) module.remove_prefix(kPrefix.size());
      const bool is_a = module.ends_with(kSuffixA);
      if (!is_a && !module.ends_with(kSuffixB)) return no_place(name);
      module.remove_suffix(kSuffixA.size());
      if (tensor.shape().rank() != 2 || !is_dense_float(tensor.dtype())) {
        return failure(ErrorCode::kInvalidData, name,
                       "is " + std::string(dtype_name(tensor.dtype())) + " " + tensor.shape().to_string() +
                           ", not a matrix of F32, BF16 or F16");
      }
      Pair& pair = pairs_[std::string(module)];
      (is_a ? pair.a : pair.b) = tensor;
      (is_a ? pair.a_name : pair.b_name) = name;
    }
    for (const auto& [module, pair] : pairs_) {
      if (pair.a && pair.b) continue;
      return failure(ErrorCode::kInvalidData, pair.a ? pair.a_name : pair.b_name,
                     std::string("has no ") + (pair.a ? "lora_B" : "lora_A") + " beside it");
    }
    if (pairs_.empty()) return error(ErrorCode::kInvalidData, tensor_path_ + ": holds no tensors");
    return {};
  }

  Status add_pair(const std::string& module, const Pair& pair) {
    auto name = parse_module(module);
    if (!name) return no_place(pair.a_name);
    if (name->layer_idx >= config_.num_hidden_layers()) {
      return failure(ErrorCode::kInvalidData, pair.a_name,
                     "is for layer " + std::to_string(name->layer_idx) + ", the model has " +
                         std::to_string(config_.num_hidden_layers()) + " layers");
    }
    const bool all_experts = name->module == "mixer.experts" || name->module == "mixer.experts.base_layer";
    std::string pattern_name = module;
    if (all_experts) {
      NF_TRY(name->module, all_experts_projection(module, pair));
      pattern_name = module.substr(0, module.find(".experts")) + ".experts" + name->module.substr(13);
    }
    const auto target = std::find_if(targets_.begin(), targets_.end(),
                                     [&](const TargetInfo& info) { return info.module == name->module; });
    if (target == targets_.end()) return no_place(pair.a_name);
    const LayerKind kind = config_.layers[static_cast<size_t>(name->layer_idx)];
    if (target->kind != kind) {
      return failure(ErrorCode::kInvalidData, pair.a_name,
                     "is for a layer of kind '" + std::string(1, layer_kind_letter(target->kind)) +
                         "', but layer " + std::to_string(name->layer_idx) + " of the model is of kind '" +
                         layer_kind_letter(kind) + "'");
    }
    const bool is_expert =
        target->target == LoraTarget::kExpertUpProj || target->target == LoraTarget::kExpertDownProj;
    if (is_expert && !all_experts && (!name->expert || *name->expert >= config_.n_routed_experts)) {
      return failure(
          ErrorCode::kInvalidData, pair.a_name,
          "is for an expert that the model lacks: it has " + std::to_string(config_.n_routed_experts));
    }
    const int64_t rank = lora_.rank_of(pattern_name);
    const float scale = lora_.scale_of(pattern_name);
    const int64_t copies = all_experts ? config_.n_routed_experts : 1;
    if (rank > backend_.shape_limits().lora_rank)
      return failure(ErrorCode::kUnsupported, pair.a_name,
                     "has rank " + std::to_string(rank) + ", and this device's kernels take at most " +
                         std::to_string(backend_.shape_limits().lora_rank));
    NF_RETURN_IF_ERROR(check_shapes(pair, *target, rank, copies));
    adapter_.matched_[name->module] += copies;
    LoraAdapter::Layer& layer = adapter_.layers_[static_cast<size_t>(name->layer_idx)];
    if (!is_expert) {
      if (layer.linears[static_cast<size_t>(target->target)]) return adapted_twice(pair.a_name);
      NF_TRY(layer.linears[static_cast<size_t>(target->target)], place(pair.a, pair.b, scale));
      return {};
    }
    auto& experts =
        target->target == LoraTarget::kExpertUpProj ? layer.expert_up_proj : layer.expert_down_proj;
    if (all_experts && !experts.empty()) return adapted_twice(pair.a_name);
    experts.resize(static_cast<size_t>(config_.n_routed_experts));
    if (all_experts) return place_all_experts(pair, rank, scale, experts);
    if (experts[static_cast<size_t>(*name->expert)].a) return adapted_twice(pair.a_name);
    NF_TRY(experts[static_cast<size_t>(*name->expert)], place(pair.a, pair.b, scale));
    return {};
  }

  // PEFT wraps the parameters of a module one around the other in the order of their declaration, up_proj
  // first: with both adapted, the inner wrapper ("base_layer") is up_proj's. A lone wrapper is whichever
  // target_parameters names.
  Result<std::string> all_experts_projection(const std::string& module, const Pair& pair) {
    constexpr std::string_view kInner = ".base_layer";
    if (module.ends_with(kInner)) return std::string("mixer.experts.up_proj");
    if (pairs_.contains(module + std::string(kInner))) return std::string("mixer.experts.down_proj");
    std::vector<std::string> named;
    for (const char* projection : {"up_proj", "down_proj"}) {
      const std::string suffix = std::string("experts.") + projection;
      const bool is_named = std::any_of(lora_.target_parameters.begin(), lora_.target_parameters.end(),
                                        [&](const std::string& name) { return name.ends_with(suffix); });
      if (is_named) named.push_back("mixer." + suffix);
    }
    if (named.size() == 1) return named[0];
    return failure(ErrorCode::kInvalidData, pair.a_name,
                   "adapts all experts at once, but target_parameters of " + std::string(kConfigFile) +
                       " does not tell which projection");
  }

  Status check_shapes(const Pair& pair, const TargetInfo& target, int64_t rank, int64_t copies) const {
    const Shape a{rank * copies, target.in_features};
    const Shape b{target.out_features, rank * copies};
    const auto check = [&](const std::string& name, const ConstTensorView& tensor,
                           const Shape& wanted) -> Status {
      if (tensor.shape() == wanted) return {};
      return error(ErrorCode::kInvalidData,
                   tensor_path_ + ": tensor \"" + name + "\" has shape " + tensor.shape().to_string() +
                       ", the model and rank " + std::to_string(rank) + " of " + kConfigFile + " ask for " +
                       wanted.to_string(),
                   kOtherModelHint);
    };
    NF_RETURN_IF_ERROR(check(pair.a_name, pair.a, a));
    return check(pair.b_name, pair.b, b);
  }

  // A [experts * rank, in], the expert slowest; B [out, rank * experts], the expert fastest.
  Status place_all_experts(const Pair& pair, int64_t rank, float scale,
                           std::vector<ops::LoraWeight>& experts) {
    const auto num_experts = static_cast<int64_t>(experts.size());
    const int64_t element_bytes = dtype_bytes(pair.b.dtype());
    const int64_t out_features = pair.b.size(0);
    Tensor b = make_host_tensor(pair.b.dtype(), {out_features, rank});
    const auto* source = static_cast<const std::byte*>(pair.b.raw());
    auto* target = static_cast<std::byte*>(b.view().raw());
    for (int64_t expert = 0; expert < num_experts; ++expert) {
      for (int64_t i = 0; i < out_features * rank; ++i) {
        std::memcpy(target + i * element_bytes, source + (i * num_experts + expert) * element_bytes,
                    static_cast<size_t>(element_bytes));
      }
      NF_TRY(experts[static_cast<size_t>(expert)], place(pair.a.rows(expert * rank, rank), b.view(), scale));
    }
    return {};
  }

  Result<ops::LoraWeight> place(const ConstTensorView& a, const ConstTensorView& b, float scale) {
    ops::LoraWeight weight;
    weight.scale = scale;
    NF_TRY(weight.a, upload(a));
    NF_TRY(weight.b, upload(b));
    return weight;
  }

  // A copy in the backend's memory: the file is not kept open. f16 becomes f32, which lora_add takes.
  Result<ConstTensorView> upload(const ConstTensorView& stored) {
    const DType dtype = stored.dtype() == DType::kF16 ? DType::kF32 : stored.dtype();
    const int64_t bytes = stored.numel() * dtype_bytes(dtype);
    Tensor converted = make_host_tensor(dtype, stored.shape());
    convert_elements(stored, converted.view());
    NF_TRY(Buffer buffer, backend_.allocate(bytes));
    backend_.upload(converted.view().raw(), buffer.data(), bytes);
    const ConstTensorView placed(buffer.data(), dtype, stored.shape());
    adapter_.buffers_.push_back(std::move(buffer));
    return placed;
  }

  std::string config_path_;
  std::string tensor_path_;
  const ModelConfig& config_;
  ops::Backend& backend_;
  std::vector<TargetInfo> targets_;
  LoraConfig lora_;
  std::map<std::string, Pair> pairs_;
  LoraAdapter adapter_;
};

Result<LoraAdapter> LoraAdapter::load(const std::string& folder, const ModelConfig& config,
                                      ops::Backend& backend) {
  auto adapter = LoraReader(folder, config, backend).read();
  if (!adapter) return adapter;
  std::string summary;
  for (const auto& [module, count] : adapter->matched()) {
    summary += (summary.empty() ? "" : ", ") + module + " " + std::to_string(count);
  }
  spdlog::info("{}: adapter pairs by module: {}", folder, summary);
  return adapter;
}

Result<LoraAdapter> LoraAdapter::allocate(const ModelConfig& config, const std::vector<LoraTarget>& targets,
                                          int64_t rank, float scale, ops::Backend& backend,
                                          std::vector<TrainableLoraPair>& pairs) {
  LoraAdapter adapter;
  adapter.layers_.resize(config.layers.size());
  const auto take = [&](const Shape& shape) -> Result<TensorView> {
    NF_TRY(Buffer buffer, backend.allocate(shape.numel() * dtype_bytes(DType::kF32)));
    const TensorView view(buffer.data(), DType::kF32, shape);
    adapter.buffers_.push_back(std::move(buffer));
    return view;
  };
  const auto add = [&](const std::string& module, const TargetInfo& info) -> Result<ops::LoraWeight> {
    TrainableLoraPair pair{.module = module, .target = info.target, .a = {}, .b = {}};
    NF_TRY(pair.a, take({rank, info.in_features}));
    NF_TRY(pair.b, take({info.out_features, rank}));
    pairs.push_back(pair);
    ++adapter.matched_[std::string(info.module)];
    return ops::LoraWeight{pair.a, pair.b, scale};
  };
  for (size_t layer_idx = 0; layer_idx < config.layers.size(); ++layer_idx) {
    Layer& layer = adapter.layers_[layer_idx];
    const std::string prefix = "backbone.layers." + std::to_string(layer_idx) + ".";
    for (const TargetInfo& info : targets_of(config)) {
      if (info.kind != config.layers[layer_idx]) continue;
      if (std::find(targets.begin(), targets.end(), info.target) == targets.end()) continue;
      const bool is_expert =
          info.target == LoraTarget::kExpertUpProj || info.target == LoraTarget::kExpertDownProj;
      if (!is_expert) {
        NF_TRY(layer.linears[static_cast<size_t>(info.target)], add(prefix + std::string(info.module), info));
        continue;
      }
      auto& experts =
          info.target == LoraTarget::kExpertUpProj ? layer.expert_up_proj : layer.expert_down_proj;
      constexpr std::string_view kExperts = "mixer.experts.";
      const std::string projection(info.module.substr(kExperts.size()));
      for (int64_t expert = 0; expert < config.n_routed_experts; ++expert) {
        const std::string module = prefix + std::string(kExperts) + std::to_string(expert) + "." + projection;
        NF_TRY(ops::LoraWeight weight, add(module, info));
        experts.push_back(weight);
      }
    }
  }
  return adapter;
}

const ops::LoraWeight* LoraAdapter::find(int64_t layer_idx, LoraTarget target) const {
  const auto& weight = layers_.at(static_cast<size_t>(layer_idx)).linears[static_cast<size_t>(target)];
  return weight ? &*weight : nullptr;
}

const std::vector<ops::LoraWeight>& LoraAdapter::find_experts(int64_t layer_idx, LoraTarget target) const {
  const Layer& layer = layers_.at(static_cast<size_t>(layer_idx));
  return target == LoraTarget::kExpertUpProj ? layer.expert_up_proj : layer.expert_down_proj;
}

int64_t LoraAdapter::num_bytes() const {
  int64_t bytes = 0;
  for (const Buffer& buffer : buffers_) bytes += buffer.num_bytes();
  return bytes;
}

}  // namespace nemoforge::model
