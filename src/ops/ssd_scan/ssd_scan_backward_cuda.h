// The backward of ssd_scan on CUDA.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/ssd_scan/ssd_scan_backward.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked; the index tensors of rows are in device memory.
void ssd_scan_backward_cuda(const SsdScanBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
