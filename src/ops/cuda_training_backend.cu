#include <algorithm>
#include <string>
#include <utility>

#include "ops/attention/attention_backward_cuda.h"
#include "ops/causal_conv1d/causal_conv1d_backward_cuda.h"
#include "ops/cross_entropy/cross_entropy_cuda.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_training_backend.h"
#include "ops/dropout/dropout_cuda.h"
#include "ops/embedding/embedding_backward_cuda.h"
#include "ops/gated_rms_norm/gated_rms_norm_backward_cuda.h"
#include "ops/grouped_linear/grouped_linear_backward_cuda.h"
#include "ops/linear/linear_backward_cuda.h"
#include "ops/lora/lora_backward_cuda.h"
#include "ops/moe/moe_backward_cuda.h"
#include "ops/relu2/relu2_backward_cuda.h"
#include "ops/rms_norm/rms_norm_backward_cuda.h"
#include "ops/router/router_backward_cuda.h"
#include "ops/ssd_scan/ssd_scan_backward_cuda.h"

namespace nemoforge::ops {

OpStream& CudaTrainingContext::stream() const {
  return backend_->stream();
}

void* CudaTrainingContext::memory(int64_t num_bytes) {
  if (memory_.num_bytes() < num_bytes) {
    backend_->synchronize();  // work that uses the old memory is still in the stream
    memory_ = Buffer();       // before the new is asked for: both may be too much
    auto grown = backend_->allocate(num_bytes);
    if (!grown) throw CudaError(grown.error().to_string());
    memory_ = std::move(*grown);
  }
  return memory_.data();
}

void CudaTrainingBackend::embedding_backward(const EmbeddingBackwardArgs& args) {
  check(args);
  embedding_backward_cuda(args, context_);
}

void CudaTrainingBackend::rms_norm_backward(const RmsNormBackwardArgs& args) {
  check(args);
  rms_norm_backward_cuda(args, context_);
}

void CudaTrainingBackend::gated_rms_norm_backward(const GatedRmsNormBackwardArgs& args) {
  check(args);
  gated_rms_norm_backward_cuda(args, context_);
}

void CudaTrainingBackend::linear_backward(const LinearBackwardArgs& args) {
  check(args);
  linear_backward_cuda(args, context_);
}

void CudaTrainingBackend::grouped_linear_backward(const GroupedLinearBackwardArgs& args) {
  check(args);
  grouped_linear_backward_cuda(args, context_);
}

void CudaTrainingBackend::lora_backward(const LoraBackwardArgs& args) {
  check(args);
  lora_backward_cuda(args, context_);
}

void CudaTrainingBackend::relu2_backward(const Relu2BackwardArgs& args) {
  check(args);
  relu2_backward_cuda(args, context_);
}

void CudaTrainingBackend::causal_conv1d_backward(const CausalConv1dBackwardArgs& args) {
  check(args);
  causal_conv1d_backward_cuda(args, context_);
}

void CudaTrainingBackend::ssd_scan_backward(const SsdScanBackwardArgs& args) {
  check(args);
  ssd_scan_backward_cuda(args, context_);
}

void CudaTrainingBackend::attention_backward(const AttentionBackwardArgs& args) {
  check(args);
  attention_backward_cuda(args, context_);
}

void CudaTrainingBackend::router_backward(const RouterBackwardArgs& args) {
  check(args);
  router_backward_cuda(args, context_);
}

void CudaTrainingBackend::moe_dispatch_backward(const MoeDispatchBackwardArgs& args) {
  check(args);
  moe_dispatch_backward_cuda(args, context_);
}

void CudaTrainingBackend::moe_combine_backward(const MoeCombineBackwardArgs& args) {
  check(args);
  moe_combine_backward_cuda(args, context_);
}

void CudaTrainingBackend::cross_entropy(const CrossEntropyArgs& args) {
  check(args);
  cross_entropy_cuda(args, context_);
}

void CudaTrainingBackend::dropout(const DropoutArgs& args) {
  check(args);
  dropout_cuda(args, context_);
}

Result<std::unique_ptr<TrainingBackend>> make_cuda_training_backend(Backend& backend) {
  auto* cuda = dynamic_cast<CudaBackend*>(&backend);
  NF_CHECK(cuda != nullptr) << backend.name();
  return std::make_unique<CudaTrainingBackend>(*cuda);
}

}  // namespace nemoforge::ops
