// The floors on a device with its own memory.
#include <algorithm>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "bench/machine.h"
#include "bench/timing.h"
#include "ops/random_tensor.h"

namespace nemoforge::bench {
namespace {

constexpr int kRepetitions = 5;
constexpr int64_t kCopyBytes = int64_t{1} << 30;
constexpr int kCopiesEach = 8;
constexpr int64_t kSquare = 8192;
constexpr int kProductsEach = 10;

// The best of several repetitions of `work`, waited for.
template <typename Work>
double best_seconds(ops::Backend& backend, const Work& work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRepetitions; ++i) {
    backend.synchronize();
    const Stopwatch watch;
    work();
    backend.synchronize();
    best = std::min(best, watch.seconds());
  }
  return best;
}

// Operations a second of a large square product of random values.
Result<double> flops_per_s(DType dtype, ops::Backend& backend) {
  const int64_t bytes = kSquare * kSquare * dtype_bytes(dtype);
  NF_TRY(const Buffer x, backend.allocate(bytes));
  NF_TRY(const Buffer w, backend.allocate(bytes));
  NF_TRY(const Buffer out, backend.allocate(bytes));
  const Shape shape{kSquare, kSquare};
  Rng rng(1);
  // A few rows again and again: drawing all of them would take longer than the measurement.
  constexpr int64_t kRandomRows = 256;
  const Tensor rows = ops::random_tensor(rng, dtype, {kRandomRows, kSquare});
  const int64_t piece = kRandomRows * kSquare * dtype_bytes(dtype);
  for (int64_t begin = 0; begin < bytes; begin += piece) {
    backend.upload(rows.view().raw(), static_cast<std::byte*>(x.data()) + begin, piece);
    backend.upload(rows.view().raw(), static_cast<std::byte*>(w.data()) + begin, piece);
  }
  const ops::LinearWeight weight{ConstTensorView(w.data(), dtype, shape), {}};
  const double seconds = best_seconds(backend, [&] {
    for (int i = 0; i < kProductsEach; ++i) {
      backend.linear({.x = ConstTensorView(x.data(), dtype, shape),
                      .weight = &weight,
                      .num_decode_rows = 0,
                      .out = TensorView(out.data(), dtype, shape)});
    }
  });
  return kProductsEach * MatrixProduct{kSquare, kSquare, kSquare}.flops() / seconds;
}

}  // namespace

Result<double> memory_gb_per_s(ops::Backend& backend) {
  if (backend.shares_host_memory()) return read_gb_per_s();
  NF_TRY(const Buffer from, backend.allocate(kCopyBytes));
  NF_TRY(const Buffer to, backend.allocate(kCopyBytes));
  const double seconds = best_seconds(backend, [&] {
    for (int i = 0; i < kCopiesEach; ++i) backend.copy(from.data(), to.data(), kCopyBytes);
  });
  return 2.0 * kCopiesEach * static_cast<double>(kCopyBytes) / seconds / 1e9;
}

Result<double> matmul_seconds(std::span<const MatrixProduct> products, DType dtype, ops::Backend& backend) {
  if (backend.shares_host_memory()) return onednn_seconds(products, dtype);
  double flops = 0;
  for (const MatrixProduct& product : products) flops += product.flops();
  NF_TRY(const double rate, flops_per_s(dtype, backend));
  return flops / rate;
}

}  // namespace nemoforge::bench
