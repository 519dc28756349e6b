#include "train/weight_names.h"

#include <string_view>
#include <variant>
#include <vector>

namespace nemoforge::train {
namespace {

class Visitor {
 public:
  explicit Visitor(const std::function<void(const NamedWeight&)>& visit) : visit_(visit) {}

  void matrix(const std::string& name, ModuleClass module_class, ConstTensorView& view, bool decays) const {
    visit_({name, module_class, &view, view.shape(), decays});
  }
  void parameter(const std::string& name, ModuleClass module_class, ConstTensorView& view) const {
    if (view) visit_({name, module_class, &view, view.shape(), false});
  }
  void linear(const std::string& name, ModuleClass module_class, ops::LinearWeight& weight) const {
    matrix(name + ".weight", module_class, weight.weight, true);
    parameter(name + ".bias", module_class, weight.bias);
  }

  void mixer(const std::string& prefix, model::MambaWeights& weights) const {
    constexpr ModuleClass kClass = ModuleClass::kMamba;
    linear(prefix + "in_proj", kClass, weights.in_proj);
    linear(prefix + "out_proj", kClass, weights.out_proj);
    // PyTorch's depthwise Conv1d keeps a dimension for the one input channel of each group.
    const Shape conv_shape{weights.conv_weight.size(0), 1, weights.conv_weight.size(1)};
    visit_({prefix + "conv1d.weight", kClass, &weights.conv_weight, conv_shape, false});
    parameter(prefix + "conv1d.bias", kClass, weights.conv_bias);
    parameter(prefix + "A_log", kClass, weights.a_log);
    parameter(prefix + "D", kClass, weights.d);
    parameter(prefix + "dt_bias", kClass, weights.dt_bias);
    parameter(prefix + "norm.weight", kClass, weights.norm);
  }
  void mixer(const std::string& prefix, model::AttentionWeights& weights) const {
    linear(prefix + "q_proj", ModuleClass::kAttention, weights.q_proj);
    linear(prefix + "k_proj", ModuleClass::kAttention, weights.k_proj);
    linear(prefix + "v_proj", ModuleClass::kAttention, weights.v_proj);
    linear(prefix + "o_proj", ModuleClass::kAttention, weights.o_proj);
  }
  void mlp(const std::string& prefix, ModuleClass module_class, model::MlpWeights& weights) const {
    linear(prefix + "up_proj", module_class, weights.up_proj);
    linear(prefix + "down_proj", module_class, weights.down_proj);
  }
  void mixer(const std::string& prefix, model::MlpWeights& weights) const {
    mlp(prefix, ModuleClass::kMlp, weights);
  }
  void mixer(const std::string& prefix, model::MoeWeights& weights) const {
    matrix(prefix + "gate.weight", ModuleClass::kRouter, weights.gate.weight, true);
    parameter(prefix + "gate.e_score_correction_bias", ModuleClass::kRouter, weights.correction_bias);
    for (size_t expert = 0; expert < weights.up_proj.size(); ++expert) {
      const std::string name = prefix + "experts." + std::to_string(expert) + ".";
      linear(name + "up_proj", ModuleClass::kExperts, weights.up_proj[expert]);
      linear(name + "down_proj", ModuleClass::kExperts, weights.down_proj[expert]);
    }
    mlp(prefix + "shared_experts.", ModuleClass::kSharedExperts, weights.shared_experts);
  }

 private:
  const std::function<void(const NamedWeight&)>& visit_;
};

}  // namespace

void for_each_weight(model::ModelWeights& weights, const std::function<void(const NamedWeight&)>& visit) {
  const Visitor visitor(visit);
  const bool is_tied = weights.lm_head.weight.raw() == weights.embeddings.raw();
  visitor.matrix("backbone.embeddings.weight", ModuleClass::kEmbeddings, weights.embeddings, false);
  for (size_t layer = 0; layer < weights.layers.size(); ++layer) {
    const std::string prefix = "backbone.layers." + std::to_string(layer) + ".";
    visitor.parameter(prefix + "norm.weight", ModuleClass::kNorms, weights.layers[layer].norm);
    std::visit([&](auto& mixer) { visitor.mixer(prefix + "mixer.", mixer); }, weights.layers[layer].mixer);
  }
  visitor.parameter("backbone.norm_f.weight", ModuleClass::kNorms, weights.norm_f);
  if (is_tied) {
    weights.lm_head.weight = weights.embeddings;
  } else {
    visitor.matrix("lm_head.weight", ModuleClass::kHead, weights.lm_head.weight, true);
  }
}

bool is_always_frozen(const NamedWeight& weight) {
  return std::string_view(weight.name).ends_with("e_score_correction_bias");
}

}  // namespace nemoforge::train
