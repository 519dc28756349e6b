// The stream that ops go to, and launches whose start overlaps the end of the kernel before them.
//
// A kernel that is launched through OpStream::launch may start while the one before it still runs
// (programmatic dependent launch, CUDA programming guide): a decode step is some 480 kernels of a few
// microseconds, and a plain start costs about one. Two rules make that safe:
// - await_previous_kernel() comes before anything that an earlier kernel may have written is read, and before
//   the first write. Only weights, which no kernel writes, are read before it.
// - every block of such a kernel calls it, those without work too: the kernel after it relies on "the one
//   before me is over" meaning that all before are over.
#pragma once

#include <cstdint>
#include <utility>

#include <cuda_runtime.h>

#include "ops/cuda_check.h"

namespace nemoforge::ops {

// Waits until the kernel before this one is over and what it wrote can be seen, then lets the next one start.
// Before Hopper, and in a plain launch, there is nothing to wait for.
__device__ inline void await_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

class OpStream {
 public:
  OpStream() = default;
  OpStream(cudaStream_t stream, bool can_overlap) : stream_(stream), can_overlap_(can_overlap) {}

  operator cudaStream_t() const { return stream_; }

  // The next launch depends on work of another stream too, and starts plainly.
  void start_next_alone() { next_alone_ = true; }

  // kernel<<<grid, num_threads, shared_bytes>>>(args...); the kernel follows the rules above. Throws
  // CudaError.
  template <typename... Params, typename... Args>
  void launch(void (*kernel)(Params...), dim3 grid, int num_threads, int64_t shared_bytes, Args... args) {
    cudaLaunchAttribute overlap{};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = dim3(static_cast<unsigned>(num_threads));
    config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
    config.stream = stream_;
    config.attrs = &overlap;
    config.numAttrs = can_overlap_ && !std::exchange(next_alone_, false) ? 1 : 0;
    CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...));
  }

 private:
  cudaStream_t stream_ = nullptr;
  bool can_overlap_ = false;  // the device is a Hopper or later
  bool next_alone_ = false;
};

}  // namespace nemoforge::ops
