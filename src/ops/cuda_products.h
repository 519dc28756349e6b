// The matrix products of the backward passes, by cuBLASLt.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

struct CudaProduct {
  ConstTensorView a;  // [m, k], or [k, m] where transposed
  bool a_transposed = false;
  ConstTensorView b;  // [k, n], of a's dtype: f32 or bf16
  TensorView c;       // [m, n] f32, or bf16 where a and b are
  bool adds = true;   // c += a b; else c = a b
};

// Row strides are free. Sums in f32. The same product gives the same bits.
class CudaProducts {
 public:
  CudaProducts();
  ~CudaProducts();
  CudaProducts(const CudaProducts&) = delete;
  CudaProducts& operator=(const CudaProducts&) = delete;

  void run(const CudaProduct& product, cudaStream_t stream);

 private:
  struct Plan;
  // (m, n, k; strides of a, b, c; dtypes of a, c; transposed; alignments of a, b, c in bytes)
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, DType, DType, bool, uint32_t,
                         uint32_t, uint32_t>;

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace nemoforge::ops
