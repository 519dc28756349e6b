// The scan's backward as matrix products on tensor cores.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/ssd_scan/ssd_scan_backward.h"

namespace nemoforge::ops {

// Whether the kernels apply: elements in bf16, heads of 32 or 64 channels, states of 64 or 128 columns.
[[nodiscard]] bool ssd_scan_backward_has_products(const SsdScanBackwardArgs& args);

// For arguments to which they do. Factors of products are rounded to bf16, sums are f32. Takes two bf16
// states of every head for every 64 rows from the context's memory: 128 MiB for 4096 rows of Nemotron-3-Nano.
void ssd_scan_backward_products(const SsdScanBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
