// What the tests of the ops share: the backends under test, tensors with guarded surroundings, and
// comparisons that NaN never passes.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/check.h"
#include "ops/backend.h"
#include "ops/device_choice.h"
#include "ops/element_access.h"
#include "ops/op_tolerances.h"
#include "ops/random_tensor.h"
#include "ops/reference_backend.h"
#include "tensor/buffer.h"

namespace nemoforge::ops {

// Every backend of this build that is compared with the reference, or the one that NEMOFORGE_BACKEND names
// ("reference" compares it with itself). A name that is none fails.
[[nodiscard]] inline std::vector<std::unique_ptr<Backend>> backends_under_test() {
  std::vector<std::unique_ptr<Backend>> backends;
  const char* wanted = std::getenv("NEMOFORGE_BACKEND");
  if (wanted != nullptr && std::string_view(wanted) == "reference") {
    backends.push_back(make_reference_backend());
  }
  if (wanted == nullptr || std::string_view(wanted) == "cpu") backends.push_back(make_cpu_backend());
  if (wanted == nullptr || std::string_view(wanted) == "cuda") {
    if (auto backend = make_cuda_backend()) backends.push_back(std::move(*backend));
  }
  NF_CHECK(!backends.empty()) << "NEMOFORGE_BACKEND=" << wanted << " is not a backend of this build";
  return backends;
}

// A tensor in a backend's memory. Before it, after it and in the gaps between its strided rows lie guard
// bytes that read as NaN in every float type: an op that writes there is found, and one that reads there
// poisons its result. An output starts full of the same pattern, so that an element which was not written is
// NaN.
class GuardedTensor {
 public:
  // An output. row_stride 0: contiguous.
  GuardedTensor(Backend& backend, DType dtype, const Shape& shape, int64_t row_stride = 0)
      : backend_(&backend), dtype_(dtype), shape_(shape), row_stride_(row_stride) {
    if (row_stride_ == 0) row_stride_ = shape[0] == 0 ? 1 : shape.numel() / shape[0];
    buffer_ = backend.allocate(num_bytes()).value();
    fill(image_);
    backend.upload(image_.data(), buffer_.data(), num_bytes());
  }

  // An input (or a tensor updated in place) with the values of a contiguous host tensor.
  GuardedTensor(Backend& backend, ConstTensorView values, int64_t row_stride = 0)
      : GuardedTensor(backend, values.dtype(), values.shape(), row_stride) {
    const auto* source = static_cast<const char*>(values.raw());
    for (int64_t row = 0; row < shape_[0]; ++row) {
      std::memcpy(image_.data() + row_offset(row), source + row * row_bytes(),
                  static_cast<size_t>(row_bytes()));
    }
    backend.upload(image_.data(), buffer_.data(), num_bytes());
  }

  [[nodiscard]] TensorView view() {
    return TensorView::strided(static_cast<char*>(buffer_.data()) + kGuardBytes, dtype_, shape_, row_stride_);
  }

  // The values, contiguous, once the backend's work is done; records a test failure where a guard byte
  // changed.
  [[nodiscard]] Tensor download() {
    std::vector<char> now(image_.size());
    backend_->synchronize();
    backend_->download(buffer_.data(), now.data(), num_bytes());
    Tensor values = make_host_tensor(dtype_, shape_);
    std::vector<char> guards = now;
    std::vector<char> pattern;
    fill(pattern);
    for (int64_t row = 0; row < shape_[0]; ++row) {
      std::memcpy(static_cast<char*>(values.view().raw()) + row * row_bytes(), now.data() + row_offset(row),
                  static_cast<size_t>(row_bytes()));
      std::memcpy(guards.data() + row_offset(row), pattern.data() + row_offset(row),
                  static_cast<size_t>(row_bytes()));
    }
    for (size_t i = 0; i < guards.size(); ++i) {
      if (guards[i] == pattern[i]) continue;
      ADD_FAILURE() << "guard byte written at " << static_cast<int64_t>(i) - kGuardBytes
                    << " bytes from the start of " << shape_.to_string() << " with row stride "
                    << row_stride_;
      break;
    }
    return values;
  }

 private:
  static constexpr int64_t kGuardBytes = 256;

  [[nodiscard]] int64_t row_bytes() const {
    return shape_[0] == 0 ? 0 : shape_.numel() / shape_[0] * dtype_bytes(dtype_);
  }
  [[nodiscard]] int64_t row_offset(int64_t row) const {
    return kGuardBytes + row * row_stride_ * dtype_bytes(dtype_);
  }
  [[nodiscard]] int64_t num_bytes() const { return row_offset(shape_[0]) + kGuardBytes; }
  void fill(std::vector<char>& bytes) const {
    bytes.resize(static_cast<size_t>(num_bytes()));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = i % 2 == 0 ? '\xa5' : '\x7f';
  }

  Backend* backend_;
  DType dtype_;
  Shape shape_;
  int64_t row_stride_;
  Buffer buffer_;
  std::vector<char> image_;
};

// Every element of `actual` is within the tolerance of `expected` (same shape, any dtypes); NaN and infinity
// are close only to themselves. The message has the worst element and the largest error.
[[nodiscard]] inline ::testing::AssertionResult all_close(ConstTensorView actual, ConstTensorView expected,
                                                          Tolerance tolerance) {
  if (!(actual.shape() == expected.shape())) {
    return ::testing::AssertionFailure()
           << actual.shape().to_string() << " against " << expected.shape().to_string();
  }
  const int64_t num_rows = actual.size(0);
  const int64_t num_columns = num_rows == 0 ? 0 : actual.numel() / num_rows;
  double worst_excess = 0;  // error over what is allowed
  double worst_error = 0;
  int64_t worst_row = -1;
  int64_t worst_column = -1;
  int64_t num_failures = 0;
  for (int64_t row = 0; row < num_rows; ++row) {
    for (int64_t column = 0; column < num_columns; ++column) {
      const double value = load_element(actual, row, column);
      const double target = load_element(expected, row, column);
      if (value == target || (std::isnan(value) && std::isnan(target))) continue;
      const double difference = std::abs(value - target);
      const double error = std::isnan(difference) ? INFINITY : difference;
      const double excess = error / (tolerance.absolute + tolerance.relative * std::abs(target));
      if (!(excess <= 1)) ++num_failures;
      if (excess <= worst_excess) continue;
      worst_excess = excess;
      worst_error = error;
      worst_row = row;
      worst_column = column;
    }
  }
  if (num_failures == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << num_failures << " of " << actual.numel() << " elements differ; worst at (" << worst_row << ", "
         << worst_column << "): " << load_element(actual, worst_row, worst_column) << " against "
         << load_element(expected, worst_row, worst_column) << ", error " << worst_error << " is "
         << worst_excess << " times what is allowed (absolute " << tolerance.absolute << ", relative "
         << tolerance.relative << ")";
}

// The two contiguous tensors have the same dtype, shape and bits, and none of them is NaN.
[[nodiscard]] inline ::testing::AssertionResult bits_equal(ConstTensorView actual, ConstTensorView expected) {
  NF_CHECK(actual.is_contiguous() && expected.is_contiguous());
  if (actual.dtype() != expected.dtype() || !(actual.shape() == expected.shape())) {
    return ::testing::AssertionFailure()
           << actual.shape().to_string() << " against " << expected.shape().to_string();
  }
  const int64_t bytes = dtype_bytes(actual.dtype());
  const ConstTensorView values = actual.reshape({actual.numel()});
  for (int64_t i = 0; i < actual.numel(); ++i) {
    if (std::isnan(load_element(values, i))) return ::testing::AssertionFailure() << "NaN at " << i;
    const auto* a = static_cast<const char*>(actual.raw()) + i * bytes;
    const auto* b = static_cast<const char*>(expected.raw()) + i * bytes;
    if (std::memcmp(a, b, static_cast<size_t>(bytes)) == 0) continue;
    return ::testing::AssertionFailure()
           << "first difference at flat index " << i << ": " << load_element(values, i) << " against "
           << load_element(expected.reshape({actual.numel()}), i);
  }
  return ::testing::AssertionSuccess();
}

}  // namespace nemoforge::ops
