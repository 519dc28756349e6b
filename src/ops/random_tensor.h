// Random host tensors for tests and benchmarks.
#pragma once

#include <cstdint>

#include "base/rng.h"
#include "ops/element_access.h"
#include "tensor/buffer.h"

namespace nemoforge::ops {

// mean + scale * standard normal, rounded to dtype.
[[nodiscard]] inline Tensor random_tensor(Rng& rng, DType dtype, const Shape& shape, double scale = 1,
                                          double mean = 0) {
  Tensor tensor = make_host_tensor(dtype, shape);
  const TensorView flat = tensor.view().reshape({shape.numel()});
  for (int64_t i = 0; i < shape.numel(); ++i) store_element(flat, i, 0, mean + scale * rng.normal());
  return tensor;
}

}  // namespace nemoforge::ops
