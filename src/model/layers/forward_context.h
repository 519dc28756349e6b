// What every layer of a forward pass works with.
#pragma once

#include <cstdint>
#include <span>

#include "model/config.h"
#include "model/lora_adapter.h"
#include "model/workspace.h"
#include "ops/backend.h"
#include "ops/linear/linear.h"
#include "ops/ragged_rows.h"
#include "tensor/tensor_view.h"

namespace nemoforge::model {

// Rows [begin, end) of a batch pass through one adapter.
struct AdapterRows {
  int64_t begin = 0;
  int64_t end = 0;
  const LoraAdapter* adapter = nullptr;
};

struct ForwardContext;

// What the input of adapters passes through on its way to A: dropout in training. The base's product reads
// the input as it is.
class AdapterInput {
 public:
  AdapterInput() = default;
  AdapterInput(const AdapterInput&) = delete;
  AdapterInput& operator=(const AdapterInput&) = delete;
  virtual ~AdapterInput() = default;

  // x [rows, in_features] of the adapters on `target` in the context's layer; the result, like x, may stand
  // in the context's workspace.
  [[nodiscard]] virtual ConstTensorView apply(const ForwardContext& context, LoraTarget target,
                                              const ConstTensorView& x) const = 0;
};

struct ForwardContext {
  ops::Backend& backend;
  const ModelConfig& config;
  const ops::RaggedRows& rows;
  Workspace& workspace;                   // where layers take their activations from
  DType dtype;                            // of the activations: f32 or bf16
  std::span<const AdapterRows> adapters;  // ascending; rows of no range pass through the base alone
  int64_t layer_idx = 0;
  const AdapterInput* adapter_input = nullptr;  // null: adapters read the input as it is

  [[nodiscard]] int64_t num_rows() const { return rows.num_tokens; }
  // Activations [num_rows, features].
  [[nodiscard]] TensorView take(int64_t features) const {
    return workspace.take(dtype, {num_rows(), features});
  }
  [[nodiscard]] TensorView take_f32(int64_t features) const {
    return workspace.take(DType::kF32, {num_rows(), features});
  }
};

// out += the terms of the adapters whose runs of rows these are, if there are any; `offsets` as of
// LoraAddArgs.
void add_adapters(const ForwardContext& context, const ConstTensorView& x, LoraTarget target,
                  std::span<const ops::LoraRun> runs, const ConstTensorView& offsets, const TensorView& out);

// x W^T + bias, plus the low-rank terms of the rows' adapters: one rounding each to the dtype of the result,
// which is that of the activations.
[[nodiscard]] TensorView linear(const ForwardContext& context, const ConstTensorView& x,
                                const ops::LinearWeight& weight, LoraTarget target);
// Likewise with a result in f32: the last layer of a mixer, which is added to the f32 residual stream.
[[nodiscard]] TensorView linear_to_residual(const ForwardContext& context, const ConstTensorView& x,
                                            const ops::LinearWeight& weight, LoraTarget target);

}  // namespace nemoforge::model
