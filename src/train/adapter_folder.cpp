#include "train/adapter_folder.h"

#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "tensor/buffer.h"

namespace nemoforge::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHubPrefix = "base_model.model.backbone.";
constexpr std::string_view kTransformersPrefix = "base_model.model.model.";
constexpr std::string_view kExperts = ".mixer.experts.";

// "...layers.1.mixer.experts.7.up_proj.lora_A.weight", taken apart.
struct ExpertName {
  std::string layer;  // "...layers.1"
  int64_t expert = 0;
  bool is_up = false;
  bool is_a = false;
};

std::optional<ExpertName> parse_expert_name(std::string_view name) {
  const size_t at = name.find(kExperts);
  if (at == std::string_view::npos) return std::nullopt;
  ExpertName parsed;
  parsed.layer = std::string(name.substr(0, at));
  const std::string_view rest = name.substr(at + kExperts.size());
  const auto [end, code] = std::from_chars(rest.data(), rest.data() + rest.size(), parsed.expert);
  NF_CHECK(code == std::errc()) << name;
  parsed.is_up = rest.find(".up_proj.") != std::string_view::npos;
  parsed.is_a = rest.find(".lora_A.") != std::string_view::npos;
  return parsed;
}

std::string transformers_name(std::string_view name) {
  NF_CHECK(name.starts_with(kHubPrefix)) << name;
  return std::string(kTransformersPrefix) + std::string(name.substr(kHubPrefix.size()));
}

// The pairs of one projection of one layer's experts, gathered into PEFT's two matrices.
class StackedExperts {
 public:
  StackedExperts(const Shape& expert_shape, bool is_a, int64_t num_experts)
      : is_a_(is_a),
        num_experts_(num_experts),
        stacked_(
            make_host_tensor(DType::kF32, is_a ? Shape{expert_shape[0] * num_experts, expert_shape[1]}
                                               : Shape{expert_shape[0], expert_shape[1] * num_experts})) {}

  void place(const ConstTensorView& values, int64_t expert) {
    const auto* source = values.data<float>();
    auto* target = stacked_.view().data<float>();
    if (is_a_) {
      std::memcpy(target + expert * values.numel(), source,
                  static_cast<size_t>(values.numel()) * sizeof(float));
      return;
    }
    for (int64_t i = 0; i < values.numel(); ++i) target[i * num_experts_ + expert] = source[i];
  }

  [[nodiscard]] ConstTensorView view() const { return stacked_.view(); }

 private:
  bool is_a_;
  int64_t num_experts_;
  Tensor stacked_;
};

Status write_per_expert(const std::string& path, const ParameterSet& set) {
  std::vector<io::NamedTensor> tensors;
  for (const Parameter& parameter : set.parameters) tensors.push_back({parameter.name, parameter.value});
  return io::write_safetensors(path, tensors, {{"format", "pt"}});
}

Status write_peft3d(const std::string& path, const ParameterSet& set, const model::ModelConfig& config) {
  std::vector<io::NamedTensor> tensors;
  std::map<std::string, StackedExperts> stacked;
  for (const Parameter& parameter : set.parameters) {
    const auto expert = parse_expert_name(parameter.name);
    if (!expert) {
      tensors.push_back({transformers_name(parameter.name), parameter.value});
      continue;
    }
    const std::string name = transformers_name(expert->layer) + ".mixer.experts" +
                             (expert->is_up ? ".base_layer" : "") + (expert->is_a ? ".lora_A" : ".lora_B") +
                             ".weight";
    const auto [place, is_new] =
        stacked.try_emplace(name, parameter.value.shape(), expert->is_a, config.n_routed_experts);
    place->second.place(parameter.value, expert->expert);
  }
  for (const auto& [name, experts] : stacked) tensors.push_back({name, experts.view()});
  return io::write_safetensors(path, tensors, {{"format", "pt"}});
}

// The ends of module names that PEFT adapts.
std::vector<std::string> target_modules(const LoraTargets& targets, const model::ModelConfig& config,
                                        AdapterLayout layout) {
  std::vector<std::string> modules;
  const auto add = [&](bool wanted, model::LayerKind kind, std::initializer_list<const char*> names) {
    if (wanted && config.has_layer(kind)) modules.insert(modules.end(), names.begin(), names.end());
  };
  add(targets.attention, model::LayerKind::kAttention, {"q_proj", "k_proj", "v_proj", "o_proj"});
  add(targets.mamba, model::LayerKind::kMamba, {"in_proj", "out_proj"});
  if (layout == AdapterLayout::kPerExpert && targets.experts && config.has_layer(model::LayerKind::kMoe)) {
    modules.insert(modules.end(), {"up_proj", "down_proj"});
    return modules;
  }
  add(targets.shared_experts, model::LayerKind::kMoe, {"shared_experts.up_proj", "shared_experts.down_proj"});
  add(targets.mlp, model::LayerKind::kMlp, {"mixer.up_proj", "mixer.down_proj"});
  return modules;
}

// What the ends of names catch and the adapter leaves alone.
std::vector<std::string> excluded_modules(const LoraTargets& targets, AdapterLayout layout) {
  std::vector<std::string> modules;
  if (layout != AdapterLayout::kPerExpert || !targets.experts) return modules;
  if (!targets.shared_experts) {
    modules.insert(modules.end(), {"shared_experts.up_proj", "shared_experts.down_proj"});
  }
  if (!targets.mlp) modules.insert(modules.end(), {"mixer.up_proj", "mixer.down_proj"});
  return modules;
}

}  // namespace

Status write_adapter(const std::string& out, const ParameterSet& set, const model::ModelConfig& config,
                     const LoraOptions& options, AdapterLayout layout, const std::string& base_model) {
  const std::string tensor_path = (fs::path(out) / "adapter_model.safetensors").string();
  NF_RETURN_IF_ERROR(layout == AdapterLayout::kPerExpert ? write_per_expert(tensor_path, set)
                                                         : write_peft3d(tensor_path, set, config));
  // PEFT wraps target_parameters without dropout and refuses to load a configuration that has any.
  const bool with_parameters =
      layout == AdapterLayout::kPeft3d && options.targets.experts && config.has_layer(model::LayerKind::kMoe);
  io::Json json = {{"peft_type", "LORA"},
                   {"task_type", "CAUSAL_LM"},
                   {"base_model_name_or_path", base_model},
                   {"r", options.rank},
                   {"lora_alpha", options.alpha},
                   {"use_rslora", options.use_rslora},
                   {"lora_dropout", with_parameters ? 0.0 : options.dropout},
                   {"bias", "none"},
                   {"fan_in_fan_out", false},
                   {"init_lora_weights", true},
                   {"inference_mode", true},
                   {"target_modules", target_modules(options.targets, config, layout)}};
  const auto excluded = excluded_modules(options.targets, layout);
  if (!excluded.empty()) json["exclude_modules"] = excluded;
  if (with_parameters) {
    json["target_parameters"] = {"mixer.experts.up_proj", "mixer.experts.down_proj"};
  }
  return io::write_file_atomically((fs::path(out) / "adapter_config.json").string(), json.dump(2) + "\n");
}

}  // namespace nemoforge::train
