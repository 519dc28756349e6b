// The backward of every op of the model as an interface, beside Backend: serving needs none of it. Contracts
// stand in the ops' own headers, <op>_backward.h.
//
// One rule for all: a gradient is added to what its tensor holds, so that a tensor which is read twice gets
// both; the caller begins with zeros. Activations and their gradients are f32, and on CUDA f32 or bf16 where
// the contracts say so (tensors marked T are of one dtype); the additions to a bf16 gradient round to it.
// What is read on the way in f32 stays f32: the residual stream and its gradient, the router, the output of
// the state space scan, the logits, A_log, D and dt_bias. Gradients of parameters are f32, and may be absent
// where the parameter is frozen.
#pragma once

#include <memory>
#include <string_view>

#include "base/result.h"
#include "ops/attention/attention_backward.h"
#include "ops/backend.h"
#include "ops/causal_conv1d/causal_conv1d_backward.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "ops/dropout/dropout.h"
#include "ops/embedding/embedding_backward.h"
#include "ops/gated_rms_norm/gated_rms_norm_backward.h"
#include "ops/grouped_linear/grouped_linear_backward.h"
#include "ops/linear/linear_backward.h"
#include "ops/lora/lora_backward.h"
#include "ops/moe/moe_backward.h"
#include "ops/relu2/relu2_backward.h"
#include "ops/rms_norm/rms_norm_backward.h"
#include "ops/router/router_backward.h"
#include "ops/ssd_scan/ssd_scan_backward.h"

namespace nemoforge::ops {

// Works on the memory, and in the order, of the Backend that it was made for. The same calls give the same
// bits, whatever the number of threads. Not for use from several threads at once.
class TrainingBackend {
 public:
  TrainingBackend() = default;
  TrainingBackend(const TrainingBackend&) = delete;
  TrainingBackend& operator=(const TrainingBackend&) = delete;
  virtual ~TrainingBackend() = default;

  virtual void embedding_backward(const EmbeddingBackwardArgs& args) = 0;
  virtual void rms_norm_backward(const RmsNormBackwardArgs& args) = 0;
  virtual void gated_rms_norm_backward(const GatedRmsNormBackwardArgs& args) = 0;
  virtual void linear_backward(const LinearBackwardArgs& args) = 0;
  virtual void grouped_linear_backward(const GroupedLinearBackwardArgs& args) = 0;
  virtual void lora_backward(const LoraBackwardArgs& args) = 0;
  virtual void relu2_backward(const Relu2BackwardArgs& args) = 0;
  virtual void causal_conv1d_backward(const CausalConv1dBackwardArgs& args) = 0;
  virtual void ssd_scan_backward(const SsdScanBackwardArgs& args) = 0;
  virtual void attention_backward(const AttentionBackwardArgs& args) = 0;
  virtual void router_backward(const RouterBackwardArgs& args) = 0;
  virtual void moe_dispatch_backward(const MoeDispatchBackwardArgs& args) = 0;
  virtual void moe_combine_backward(const MoeCombineBackwardArgs& args) = 0;
  virtual void cross_entropy(const CrossEntropyArgs& args) = 0;
  virtual void dropout(const DropoutArgs& args) = 0;
};

// The training ops for a backend, which must outlive them; kUnsupported, with the backend's name, where it
// has none.
[[nodiscard]] Result<std::unique_ptr<TrainingBackend>> make_training_backend(Backend& backend);

// Those of the CUDA backend. Defined by the CUDA build (cuda_training_backend.cu); a build without CUDA,
// which has no such backend, has cuda_training_backend_absent.cpp.
[[nodiscard]] Result<std::unique_ptr<TrainingBackend>> make_cuda_training_backend(Backend& backend);

}  // namespace nemoforge::ops
