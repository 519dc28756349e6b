// Temporary memory of the CPU kernels.
#pragma once

#include <cstdint>

namespace nemoforge::ops {

// Cache-line aligned memory of the calling thread, of unspecified contents; valid until the thread's next
// call. Kept for reuse, so that an op in a decode step allocates nothing. Call it before a parallel loop and
// give each thread its part: it may throw std::bad_alloc, tasks may not.
[[nodiscard]] float* thread_scratch(int64_t num_floats);

}  // namespace nemoforge::ops
