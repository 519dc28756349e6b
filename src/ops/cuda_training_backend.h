// Training on one NVIDIA GPU. Each op is a function <op>_backward_cuda in its folder; an op runs in the
// stream of the CudaBackend and does not wait for it. Sums have a fixed order: the same calls give the same
// bits.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/training_backend.h"

namespace nemoforge::ops {

class CudaTrainingBackend final : public TrainingBackend {
 public:
  // The backend must outlive this.
  explicit CudaTrainingBackend(CudaBackend& backend) : context_(backend) {}

  void embedding_backward(const EmbeddingBackwardArgs& args) override;
  void rms_norm_backward(const RmsNormBackwardArgs& args) override;
  void gated_rms_norm_backward(const GatedRmsNormBackwardArgs& args) override;
  void linear_backward(const LinearBackwardArgs& args) override;
  void grouped_linear_backward(const GroupedLinearBackwardArgs& args) override;
  void lora_backward(const LoraBackwardArgs& args) override;
  void relu2_backward(const Relu2BackwardArgs& args) override;
  void causal_conv1d_backward(const CausalConv1dBackwardArgs& args) override;
  void ssd_scan_backward(const SsdScanBackwardArgs& args) override;
  void attention_backward(const AttentionBackwardArgs& args) override;
  void router_backward(const RouterBackwardArgs& args) override;
  void moe_dispatch_backward(const MoeDispatchBackwardArgs& args) override;
  void moe_combine_backward(const MoeCombineBackwardArgs& args) override;
  void cross_entropy(const CrossEntropyArgs& args) override;
  void dropout(const DropoutArgs& args) override;

 private:
  CudaTrainingContext context_;
};

}  // namespace nemoforge::ops
