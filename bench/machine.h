// What the machine can do at most: the floors under the measurements.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "ops/backend.h"
#include "tensor/dtype.h"

namespace nemoforge::bench {

// Bytes a second that all cores together read from memory, in units of 1e9: the best of several passes over a
// buffer far larger than the caches.
[[nodiscard]] double read_gb_per_s();

// A matrix product of a model: [rows, in_features] by [out_features, in_features]^T, `count` times.
struct MatrixProduct {
  int64_t rows = 0;
  int64_t in_features = 0;
  int64_t out_features = 0;
  int64_t count = 1;

  [[nodiscard]] double flops() const {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(in_features) *
           static_cast<double>(out_features) * static_cast<double>(count);
  }
};

// Bytes a second (in units of 1e9) between the model's memory and its processors: read_gb_per_s() where the
// memory is the host's; on a device the bytes read and written by large copies in its memory.
[[nodiscard]] Result<double> memory_gb_per_s(ops::Backend& backend);

// Seconds for these products: oneDNN's where the backend computes in host memory; on a device their
// operations at the rate that the backend's own library reaches on one large square product of `dtype`.
[[nodiscard]] Result<double> matmul_seconds(std::span<const MatrixProduct> products, DType dtype,
                                            ops::Backend& backend);

// Seconds that oneDNN takes for these products on all cores, weights and inputs of `dtype`: each shape is
// timed alone (best of several) and multiplied by its count.
[[nodiscard]] double onednn_seconds(std::span<const MatrixProduct> products, DType dtype);

}  // namespace nemoforge::bench
