// The selective scan in chunks, on tensor cores.
#pragma once

#include <cuda_runtime.h>

#include "ops/ssd_scan/ssd_scan.h"

namespace nemoforge::ops {

// Launches for the sequences after the first rows->num_decode and returns true where the kernel applies:
// x, B, C and dt in bf16, a state of 64 or 128 columns, chunks of a multiple of 64 rows. Else nothing is
// done. args are checked.
[[nodiscard]] bool ssd_scan_prefill(const SsdScanArgs& args, cudaStream_t stream);

}  // namespace nemoforge::ops
