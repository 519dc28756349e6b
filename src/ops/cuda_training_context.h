// What the backward ops of the CUDA backend run with.
#pragma once

#include <cstdint>

#include "ops/cuda_products.h"
#include "ops/cuda_stream.cuh"
#include "tensor/buffer.h"

namespace nemoforge::ops {

class CudaBackend;

class CudaTrainingContext {
 public:
  explicit CudaTrainingContext(CudaBackend& backend) : backend_(&backend) {}

  // All ops go there, forward and backward, in the order of the calls.
  [[nodiscard]] OpStream& stream() const;
  // Device memory of unspecified contents, a multiple of 256 bytes, that lives until the next call: an op
  // asks once for all that it needs. Grows, which waits for the device. Throws CudaError where there is not
  // enough.
  [[nodiscard]] void* memory(int64_t num_bytes);
  [[nodiscard]] int64_t memory_bytes() const { return memory_.num_bytes(); }
  void multiply(const CudaProduct& product) { products_.run(product, stream()); }

 private:
  CudaBackend* backend_;
  Buffer memory_;
  CudaProducts products_;
};

}  // namespace nemoforge::ops
