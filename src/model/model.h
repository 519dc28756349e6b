// nemotron_h: the whole model, for any backend and any ragged batch.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/batch.h"
#include "model/caches.h"
#include "model/config.h"
#include "model/layers/forward_context.h"
#include "model/weights.h"
#include "model/workspace.h"
#include "ops/backend.h"
#include "tensor/tensor_view.h"

namespace nemoforge::model {

// Sees the residual stream before layer layer_idx (0: the embeddings), and at layer_idx == num_hidden_layers
// the result of the final norm: [num_rows, hidden_size] in the backend's memory, valid during the call.
using HiddenStatesTap = std::function<void(int64_t layer_idx, const ConstTensorView& hidden_states)>;

class Model {
 public:
  // Activations of `dtype`: f32, or bf16 with sums, norms, router and state-space recurrence in f32. The
  // backend must outlive the model.
  Model(ModelConfig config, Weights weights, DType dtype, ops::Backend& backend);

  // The checkpoint of a Hugging Face folder.
  [[nodiscard]] static Result<Model> load(const std::string& folder, DType dtype, ops::Backend& backend);

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const ModelWeights& weights() const { return *weights_; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] ops::Backend& backend() { return *backend_; }
  // Memory held for activations and logits.
  [[nodiscard]] int64_t workspace_bytes() const { return workspace_.num_bytes(); }

  [[nodiscard]] Result<ModelCaches> allocate_caches(const CacheSizes& sizes);

  // Runs the batch and brings the caches up to date. Returns the logits of batch.logit_rows(), in their
  // order: [num_logit_rows, vocab_size] f32 in the backend's memory, valid until the next pass. Each row
  // costs 4 * vocab_size bytes: a long prompt whose logits are all wanted is passed in pieces. Token ids,
  // slots and blocks are the caller's to validate (NF_CHECK). Not for several threads at once. A step in
  // which every sequence decodes, without adapters, goes through Backend::replay.
  TensorView forward(const Batch& batch, const ModelCaches& caches, const HiddenStatesTap& tap = {});

 private:
  ModelConfig config_;
  Weights weights_;
  DType dtype_;
  ops::Backend* backend_;
  int64_t id_ = next_object_id();  // among all models and caches of the process
  Workspace workspace_;
  std::vector<int32_t> batch_words_;  // the index tensors of a batch, one after another
  std::vector<AdapterRows> adapter_rows_;
};

}  // namespace nemoforge::model
