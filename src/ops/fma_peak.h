// The arithmetic peak of this machine, measured in the run that reports it.
#pragma once

#include "base/thread_pool.h"

namespace nemoforge::ops {

// GFLOP/s of fp32 fused multiply-adds on registers, all threads together; the best of several passes.
[[nodiscard]] double measure_fma_gflop_per_s(ThreadPool& pool);

}  // namespace nemoforge::ops
