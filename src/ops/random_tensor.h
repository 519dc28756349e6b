// Random host tensors for tests and benchmarks.
#pragma once

#include <cstdint>

#include "base/rng.h"
#include "ops/element_access.h"
#include "tensor/buffer.h"

namespace nemoforge::ops {

// About standard normal, bounded by 3.5: the sum of four 16-bit uniforms (Irwin-Hall), since millions of
// exact normals would take most of the tests' time.
[[nodiscard]] inline double quick_normal(Rng& rng) {
  const uint64_t bits = rng.next_u64();
  const uint64_t sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
  return (static_cast<double>(sum) - 2 * 65535.0) * (1.7320508075688772 / 65536);
}

// mean + scale * quick_normal, rounded to dtype.
[[nodiscard]] inline Tensor random_tensor(Rng& rng, DType dtype, const Shape& shape, double scale = 1,
                                          double mean = 0) {
  Tensor tensor = make_host_tensor(dtype, shape);
  const TensorView flat = tensor.view().reshape({shape.numel()});
  for (int64_t i = 0; i < shape.numel(); ++i) store_element(flat, i, 0, mean + scale * quick_normal(rng));
  return tensor;
}

}  // namespace nemoforge::ops
