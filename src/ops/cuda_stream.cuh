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

// Of the current device.
inline int num_multiprocessors() {
  static const int count = [] {
    int device = 0;
    int found = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&found, cudaDevAttrMultiProcessorCount, device));
    return found;
  }();
  return count;
}

// Lets the kernel's blocks have that much dynamic shared memory; more than 48 KiB must be asked for.
template <typename Kernel>
void allow_shared_bytes(Kernel* kernel, int64_t num_bytes) {
  CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(num_bytes)));
}

class OpStream {
 public:
  OpStream() = default;
  OpStream(cudaStream_t stream, bool can_overlap) : stream_(stream), can_overlap_(can_overlap) {}

  operator cudaStream_t() const { return stream_; }

  // The next launch depends on work of another stream too, and starts plainly.
  void start_next_alone() { next_alone_ = true; }

  // The device has thread block clusters.
  [[nodiscard]] bool has_clusters() const { return can_overlap_; }

  // kernel<<<grid, num_threads, shared_bytes>>>(args...); the kernel follows the rules above. Throws
  // CudaError.
  template <typename... Params, typename... Args>
  void launch(void (*kernel)(Params...), dim3 grid, int num_threads, int64_t shared_bytes, Args... args) {
    start(kernel, 1, grid, num_threads, shared_bytes, static_cast<Params>(args)...);
  }

  // The same with clusters of `cluster_size` blocks along x, which divides grid.x. Where has_clusters().
  template <typename... Params, typename... Args>
  void launch_clusters(void (*kernel)(Params...), int cluster_size, dim3 grid, int num_threads,
                       Args... args) {
    start(kernel, cluster_size, grid, num_threads, 0, static_cast<Params>(args)...);
  }

 private:
  template <typename... Params>
  void start(void (*kernel)(Params...), int cluster_size, dim3 grid, int num_threads, int64_t shared_bytes,
             Params... args) {
    cudaLaunchAttribute attributes[2] = {};
    unsigned num_attributes = 0;
    if (can_overlap_ && !std::exchange(next_alone_, false)) {
      attributes[num_attributes].id = cudaLaunchAttributeProgrammaticStreamSerialization;
      attributes[num_attributes++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster_size > 1) {
      attributes[num_attributes].id = cudaLaunchAttributeClusterDimension;
      attributes[num_attributes++].val.clusterDim = {static_cast<unsigned>(cluster_size), 1, 1};
    }
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = dim3(static_cast<unsigned>(num_threads));
    config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
    config.stream = stream_;
    config.attrs = attributes;
    config.numAttrs = num_attributes;
    CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, args...));
  }

  cudaStream_t stream_ = nullptr;
  bool can_overlap_ = false;  // the device is a Hopper or later
  bool next_alone_ = false;
};

}  // namespace nemoforge::ops
