// Owned memory of a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "tensor/tensor_view.h"

namespace nemoforge {

// A block of memory that a Backend allocated; move-only, freed through the backend that made it. Its contents
// are unspecified until written.
class Buffer {
 public:
  Buffer() = default;
  Buffer(void* data, int64_t num_bytes, std::function<void(void*)> release)
      : data_(data, std::move(release)), num_bytes_(num_bytes) {}

  [[nodiscard]] void* data() const { return data_.get(); }
  [[nodiscard]] int64_t num_bytes() const { return num_bytes_; }

 private:
  std::unique_ptr<void, std::function<void(void*)>> data_{nullptr, [](void*) {}};
  int64_t num_bytes_ = 0;
};

// Cache-line aligned host memory. Throws std::bad_alloc.
[[nodiscard]] Buffer allocate_host(int64_t num_bytes);

// A buffer and its one tensor.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Buffer buffer, DType dtype, const Shape& shape)
      : buffer_(std::move(buffer)), view_(buffer_.data(), dtype, shape) {}

  [[nodiscard]] TensorView view() { return view_; }
  [[nodiscard]] ConstTensorView view() const { return view_; }

 private:
  Buffer buffer_;
  TensorView view_;
};

// Host tensor of unspecified contents.
[[nodiscard]] inline Tensor make_host_tensor(DType dtype, const Shape& shape) {
  return Tensor(allocate_host(shape.numel() * dtype_bytes(dtype)), dtype, shape);
}

}  // namespace nemoforge
