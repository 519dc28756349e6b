// A whole pass over a batch: the layers forward, the loss, and the layers from the last to the first, each
// run again where its activations were not kept.
#pragma once

#include <span>

#include "base/result.h"
#include "model/config.h"
#include "model/lora_adapter.h"
#include "model/weights.h"
#include "model/workspace.h"
#include "ops/training_backend.h"
#include "train/gradient_map.h"
#include "train/lora_dropout.h"
#include "train/recomputation.h"
#include "train/train_batch.h"

namespace nemoforge::train {

struct PassArgs {
  ops::Backend& backend;
  ops::TrainingBackend& training;
  const model::ModelConfig& config;
  DType dtype = DType::kF32;  // of the activations and their gradients
  const model::ModelWeights& weights;
  const model::LoraAdapter* adapter = nullptr;  // null: none
  const GradientMap& gradients;
  const LoraDropout* dropout = nullptr;  // null: none
  model::Workspace& workspace;
  const Recomputation& recomputation;
};

// kInvalidArgument, naming the row or document, unless ids, targets and cu_seqlens are in range.
[[nodiscard]] Status check_batch(const TrainBatch& batch, const model::ModelConfig& config);

// Losses, written to token_losses where that is not empty, and, where wants_gradients, scale * their
// gradients added to args.gradients. `tap`, where given, sees the logits. The batch was checked. Throws
// std::bad_alloc where memory does not suffice.
[[nodiscard]] LossSum run_pass(const PassArgs& args, const TrainBatch& batch, float scale,
                               bool wants_gradients, std::span<float> token_losses,
                               const LogitsTap& tap = {});

}  // namespace nemoforge::train
