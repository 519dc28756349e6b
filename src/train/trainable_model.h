// A model whose gradients can be computed: all of its weights, or a LoRA adapter on frozen ones.
//
// The forward pass is that of serving (model/layers), so that trainer and server agree. The residual stream
// before each layer is kept; a layer is computed again when its gradients are due, unless recomputation()
// spares it that.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "model/lora_adapter.h"
#include "model/weights.h"
#include "ops/backend.h"
#include "tensor/tensor_view.h"
#include "train/initial_weights.h"
#include "train/parameters.h"
#include "train/recomputation.h"
#include "train/train_batch.h"

namespace nemoforge::train {

// Which linear layers get an adapter pair. The router never does.
struct LoraTargets {
  bool attention = true;       // q_proj, k_proj, v_proj, o_proj
  bool mamba = true;           // in_proj, out_proj
  bool shared_experts = true;  // up_proj, down_proj
  bool experts = true;         // up_proj, down_proj of every routed expert
  bool mlp = true;             // up_proj, down_proj of the dense layers
};

struct LoraOptions {
  LoraTargets targets;
  int64_t rank = 16;
  double alpha = 32;
  bool use_rslora = false;  // scale alpha / sqrt(rank) instead of alpha / rank
  double dropout = 0;       // of the adapters' input, in training: in [0, 1)
  uint64_t seed = 0;        // of the initial values and of dropout
};

// A tensor of the checkpoint that does not train, for writing the checkpoint.
struct FrozenTensor {
  std::string name;
  ConstTensorView value;  // in the shape that the file has
};

// Move-only. Not for several threads at once.
class TrainableModel {
 public:
  // `dtype` is that of the activations and their gradients: f32, or bf16 on a device.
  //
  // All weights train, but for the router's correction bias: they are copied to f32 master weights, which are
  // also what is computed with, but that linear layers and the embeddings compute with bf16 copies of them
  // where dtype is bf16. The backend must outlive the model. kUnsupported where the backend has no training
  // ops or no bf16, kResourceExhausted where memory does not suffice.
  [[nodiscard]] static Result<TrainableModel> full(const model::ModelConfig& config, model::Weights weights,
                                                   ops::Backend& backend, DType dtype = DType::kF32);

  // As full, with weights drawn as transformers initialises a new model (initial_weights.h): they depend on
  // the arguments alone.
  [[nodiscard]] static Result<TrainableModel> initial(const model::ModelConfig& config,
                                                      const Initialisation& initialisation, uint64_t seed,
                                                      ops::Backend& backend, DType dtype = DType::kF32);

  // A new adapter trains on frozen weights, which keep their stored element types: A uniform in
  // +-1 / sqrt(in_features) (PEFT's Kaiming initialisation with a = sqrt(5)), B zero. Parameters have PEFT's
  // per-expert names ("base_model.model.backbone.layers.1.mixer.experts.7.up_proj.lora_A.weight"). Errors as
  // above; kInvalidArgument where the rank is not positive, the dropout not in [0, 1), or the model has none
  // of the targets.
  [[nodiscard]] static Result<TrainableModel> lora(const model::ModelConfig& config, model::Weights weights,
                                                   const LoraOptions& options, ops::Backend& backend,
                                                   DType dtype = DType::kF32);

  TrainableModel(TrainableModel&&) noexcept;
  TrainableModel& operator=(TrainableModel&&) noexcept;
  ~TrainableModel();

  // Adds scale * d(sum of the targets' losses) / d(parameter) to the gradients; the losses that it returns
  // are those with dropout, where there is any. kInvalidArgument where ids, targets or cu_seqlens are out of
  // range.
  [[nodiscard]] Result<LossSum> accumulate_gradients(const TrainBatch& batch, float scale);
  // The losses alone, without dropout; `tap`, where given, sees the logits.
  [[nodiscard]] Result<LossSum> evaluate(const TrainBatch& batch, const LogitsTap& tap = {});
  // Likewise, each row's: [num_rows], 0 where it has no target.
  [[nodiscard]] Result<std::vector<float>> token_losses(const TrainBatch& batch);
  void zero_gradients();
  // After values were overwritten from outside, not by AdamW::update: brings the copies up to date.
  void values_changed();

  // Values may be overwritten between passes (by an optimizer, by resuming a run: values_changed). In the
  // memory of the backend.
  [[nodiscard]] ParameterSet& parameters();
  // full: what the checkpoint has beside the parameters. lora: empty.
  [[nodiscard]] const std::vector<FrozenTensor>& frozen() const;
  [[nodiscard]] const model::ModelConfig& config() const;
  // With the values under training.
  [[nodiscard]] const model::ModelWeights& weights() const;
  // Null for full training.
  [[nodiscard]] const model::LoraAdapter* adapter() const;
  [[nodiscard]] ops::Backend& backend();
  // Which layers run again in the passes to come: all of them, until it is changed.
  [[nodiscard]] Recomputation& recomputation();
  // Memory held for activations.
  [[nodiscard]] int64_t workspace_bytes() const;
  [[nodiscard]] DType dtype() const;

 private:
  struct State;
  explicit TrainableModel(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace nemoforge::train
