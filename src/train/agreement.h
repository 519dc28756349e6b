// How near two computations of the same model are: what was trained against what is served, an adapter
// against the weights that it was merged into.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/lora_adapter.h"
#include "model/model.h"
#include "ops/backend.h"
#include "train/sft_document.h"
#include "train/train_batch.h"
#include "train/trainable_model.h"

namespace nemoforge::train {

// Over the tokens with loss that were compared.
struct Agreement {
  int64_t num_tokens = 0;
  double mean_kl = 0;                 // mean of KL(first || second) of the next token's distribution, nats
  double max_logprob_difference = 0;  // largest |log p_first(token) - log p_second(token)|
};

// At most so many tokens are compared: at a vocabulary of 131,072, their logits are 256 MiB.
constexpr int64_t kMaxComparedTokens = 512;

// The logits of the rows with a target, in their order: [num_targets, vocab_size].
using TargetLogits = std::function<Result<std::vector<float>>(const TrainBatch&)>;

// What the trainer computes, without dropout. `model` must outlive the function.
[[nodiscard]] TargetLogits trained_logits(TrainableModel& model);

// A checkpoint, with an adapter or without, read from disk and run as the engine does: what precedes the
// answer in prefill pieces, the answer token by token.
class ServedModel {
 public:
  // `lora`: folder of an adapter; empty: none. Activations are of `dtype`. The backend must outlive the
  // model. Errors are those of model::Model::load and model::LoraAdapter::load.
  [[nodiscard]] static Result<ServedModel> load(const std::string& folder, const std::string& lora,
                                                ops::Backend& backend, DType dtype = DType::kF32);

  // The logits of a batch of one document. kResourceExhausted where memory does not suffice for its caches.
  [[nodiscard]] Result<std::vector<float>> logits(const TrainBatch& batch);

 private:
  ServedModel(model::Model model, std::unique_ptr<model::LoraAdapter> adapter)
      : model_(std::move(model)), adapter_(std::move(adapter)) {}

  model::Model model_;
  std::unique_ptr<model::LoraAdapter> adapter_;  // null: none
};

// As TargetLogits; `model` must outlive the function.
[[nodiscard]] TargetLogits served_logits(ServedModel& model);

// Compares the last documents' tokens with loss, kMaxComparedTokens of them at most. kInvalidData where a
// logit is not finite.
[[nodiscard]] Result<Agreement> measure_agreement(std::span<const SftDocument> documents,
                                                  const TargetLogits& first, const TargetLogits& second);

}  // namespace nemoforge::train
