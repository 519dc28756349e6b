// In place of the backward ops that CUDA does not have yet: no backend is made while there are any.
#include "ops/attention/attention_backward_cuda.h"
#include "ops/causal_conv1d/causal_conv1d_backward_cuda.h"
#include "ops/gated_rms_norm/gated_rms_norm_backward_cuda.h"
#include "ops/rms_norm/rms_norm_backward_cuda.h"
#include "ops/ssd_scan/ssd_scan_backward_cuda.h"

namespace nemoforge::ops {

void attention_backward_cuda(const AttentionBackwardArgs&, CudaTrainingContext&) {
  NF_CHECK(false) << "no backward of attention on CUDA";
}

void causal_conv1d_backward_cuda(const CausalConv1dBackwardArgs&, CudaTrainingContext&) {
  NF_CHECK(false) << "no backward of causal_conv1d on CUDA";
}

void gated_rms_norm_backward_cuda(const GatedRmsNormBackwardArgs&, CudaTrainingContext&) {
  NF_CHECK(false) << "no backward of gated_rms_norm on CUDA";
}

void rms_norm_backward_cuda(const RmsNormBackwardArgs&, CudaTrainingContext&) {
  NF_CHECK(false) << "no backward of rms_norm on CUDA";
}

void ssd_scan_backward_cuda(const SsdScanBackwardArgs&, CudaTrainingContext&) {
  NF_CHECK(false) << "no backward of ssd_scan on CUDA";
}

}  // namespace nemoforge::ops
