// LoRA adapters as PEFT writes them.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "ops/backend.h"
#include "ops/lora/lora.h"
#include "tensor/buffer.h"

namespace nemoforge::model {

// The linear layers of a mixer that an adapter can change.
enum class LoraTarget : uint8_t {
  kInProj,
  kOutProj,
  kQProj,
  kKProj,
  kVProj,
  kOProj,
  kUpProj,    // of the dense MLP
  kDownProj,  // of the dense MLP
  kSharedUpProj,
  kSharedDownProj,
  kExpertUpProj,    // one pair an expert
  kExpertDownProj,  // one pair an expert
};
constexpr size_t kNumLoraTargets = 12;

// One pair of an adapter that trains.
struct TrainableLoraPair {
  std::string module;  // its name in the base model: "backbone.layers.1.mixer.experts.7.up_proj"
  LoraTarget target = LoraTarget::kInProj;
  TensorView a;  // [rank, in_features] f32
  TensorView b;  // [out_features, rank] f32
};

// An adapter in a backend's memory; move-only, and immovable in use (batches point at it).
class LoraAdapter {
 public:
  // Reads `folder`/adapter_config.json and adapter_model.safetensors. Names may carry the hub's prefix or
  // transformers 5's; routed experts may have per-expert names or the 3-D layout of PEFT's target_parameters
  // (A [num_experts * rank, in] with the expert slowest, B [out, rank * num_experts] with the expert
  // fastest). kInvalidData / kUnsupported in one sentence naming file and tensor: a tensor that matches no
  // layer of the model, a pair without its other half, a shape or rank that does not fit, an option that
  // nemoforge does not implement. Nothing is dropped in silence.
  [[nodiscard]] static Result<LoraAdapter> load(const std::string& folder, const ModelConfig& config,
                                                ops::Backend& backend);

  // A new adapter with a pair of this rank and scale on every linear layer that is one of `targets`; values
  // are unspecified. Appends the pairs to `pairs` in the order of the layers, the experts of a projection one
  // after another. Their views are valid as long as the adapter lives, wherever it is moved. Errors:
  // kResourceExhausted.
  [[nodiscard]] static Result<LoraAdapter> allocate(const ModelConfig& config,
                                                    const std::vector<LoraTarget>& targets, int64_t rank,
                                                    float scale, ops::Backend& backend,
                                                    std::vector<TrainableLoraPair>& pairs);

  // The pair of a linear layer, or null where the adapter leaves the layer alone.
  [[nodiscard]] const ops::LoraWeight* find(int64_t layer_idx, LoraTarget target) const;
  // The pairs of a layer's experts, by expert (a pair without `a`: that expert is left alone); empty where
  // the adapter leaves them all alone.
  [[nodiscard]] const std::vector<ops::LoraWeight>& find_experts(int64_t layer_idx, LoraTarget target) const;

  // How many pairs were matched by class of module ("mixer.in_proj", "mixer.experts.up_proj", ...).
  [[nodiscard]] const std::map<std::string, int64_t>& matched() const { return matched_; }
  [[nodiscard]] int64_t num_bytes() const;

 private:
  friend class LoraReader;
  struct Layer {
    std::array<std::optional<ops::LoraWeight>, kNumLoraTargets> linears;
    std::vector<ops::LoraWeight> expert_up_proj;
    std::vector<ops::LoraWeight> expert_down_proj;
  };

  std::vector<Layer> layers_;
  std::vector<Buffer> buffers_;
  std::map<std::string, int64_t> matched_;
};

}  // namespace nemoforge::model
