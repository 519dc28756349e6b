// What the benchmarks of GPU ops share: tensors on the device, times, and what the device can do at most.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include <benchmark/benchmark.h>

#include "ops/device_choice.h"
#include "ops/random_tensor.h"

namespace nemoforge::ops {

// A tensor in the backend's memory.
class DeviceTensor {
 public:
  // Repeats `pattern` as often as fits.
  DeviceTensor(Backend& backend, const Shape& shape, const Tensor& pattern)
      : view_(nullptr, pattern.view().dtype(), shape) {
    const int64_t num_bytes = shape.numel() * dtype_bytes(view_.dtype());
    const int64_t pattern_bytes = pattern.view().numel() * dtype_bytes(view_.dtype());
    buffer_ = backend.allocate(num_bytes).value();
    view_ = TensorView(buffer_.data(), pattern.view().dtype(), shape);
    for (int64_t begin = 0; begin < num_bytes; begin += pattern_bytes) {
      backend.upload(pattern.view().raw(), static_cast<char*>(buffer_.data()) + begin,
                     std::min(pattern_bytes, num_bytes - begin));
    }
  }
  [[nodiscard]] TensorView view() const { return view_; }

 private:
  Buffer buffer_;
  TensorView view_;
};

inline DeviceTensor random_device_tensor(Backend& backend, const Shape& shape, uint64_t seed,
                                         double scale = 1, DType dtype = DType::kBF16) {
  Rng rng(seed);
  constexpr int64_t kMaxPattern = int64_t{1} << 22;
  return DeviceTensor(backend, shape,
                      random_tensor(rng, dtype, Shape{std::min(kMaxPattern, shape.numel())}, scale));
}

// Median over several series of the time a call takes when calls follow each other.
template <typename Call>
double seconds_per_call(Backend& backend, Call&& call) {
  constexpr int kSeries = 7;
  constexpr int kCalls = 8;
  for (int i = 0; i < 3; ++i) call();
  std::vector<double> seconds;
  for (int series = 0; series < kSeries; ++series) {
    backend.synchronize();
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) call();
    backend.synchronize();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    seconds.push_back(elapsed.count() / kCalls);
  }
  std::nth_element(seconds.begin(), seconds.begin() + kSeries / 2, seconds.end());
  return seconds[kSeries / 2];
}

// FLOP/s of a bf16 product of 8192 x 8192 x 8192.
inline double measure_matmul(Backend& backend) {
  constexpr int64_t kSize = 8192;
  const DeviceTensor x = random_device_tensor(backend, {kSize, kSize}, 1);
  const DeviceTensor w = random_device_tensor(backend, {kSize, kSize}, 2);
  const DeviceTensor out = random_device_tensor(backend, {kSize, kSize}, 3);
  const LinearWeight weight{w.view(), {}};
  const double seconds = seconds_per_call(backend, [&] {
    backend.linear({x.view(), &weight, 0, out.view()});
  });
  return 2.0 * kSize * kSize * kSize / seconds;
}

// The same, measured once in a run.
inline double device_matmul_flops(Backend& backend) {
  static const double flops = measure_matmul(backend);
  return flops;
}

// Bytes/s of a copy between two buffers much larger than the caches, reads and writes counted; measured once
// in a run.
inline double device_copy_bytes_per_s(Backend& backend) {
  static const double bytes_per_s = [&] {
    constexpr int64_t kNumBytes = int64_t{1} << 30;
    const Buffer from = backend.allocate(kNumBytes).value();
    const Buffer to = backend.allocate(kNumBytes).value();
    backend.fill_zero(from.data(), kNumBytes);
    const double seconds =
        seconds_per_call(backend, [&] { backend.copy(from.data(), to.data(), kNumBytes); });
    return 2.0 * static_cast<double>(kNumBytes) / seconds;
  }();
  return bytes_per_s;
}

// The GPU, or nullptr with the benchmark marked as failed.
inline Backend* device(benchmark::State& state) {
  static auto backend = make_cuda_backend();
  if (backend) return backend->get();
  state.SkipWithError("no GPU");
  return nullptr;
}

}  // namespace nemoforge::ops
