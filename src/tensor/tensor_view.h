// Non-owning views of tensors: a pointer (in the memory of the backend that made it), an element type, sizes
// and row strides. Passed by value.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/check.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace nemoforge {

// A row-major view whose innermost dimensions are contiguous; only the outermost dimension may be strided (a
// slice of the columns of a matrix keeps its parent's row stride). `Byte` is std::byte for writable views,
// const std::byte otherwise.
template <typename Byte>
class BasicTensorView {
 public:
  template <typename T>
  using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;
  using Void = Element<void>;

  // The absent tensor: no data, rank 0. An optional parameter of an op is absent when !view.
  BasicTensorView() = default;

  // A contiguous tensor.
  BasicTensorView(Void* data, DType dtype, const Shape& shape)
      : data_(static_cast<Byte*>(data)), dtype_(dtype), shape_(shape), row_stride_(row_numel()) {}

  template <typename T>
  BasicTensorView(T* data, const Shape& shape)
      : BasicTensorView(data, DTypeOf<std::remove_const_t<T>>::value, shape) {}

  // A writable view is a readable one.
  operator BasicTensorView<const std::byte>() const requires(!std::is_const_v<Byte>) {
    return BasicTensorView<const std::byte>::strided(data_, dtype_, shape_, row_stride_);
  }

  static BasicTensorView strided(Void* data, DType dtype, const Shape& shape, int64_t row_stride) {
    BasicTensorView view(data, dtype, shape);
    view.row_stride_ = row_stride;
    return view;
  }

  explicit operator bool() const { return data_ != nullptr; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] int64_t size(int dim) const { return shape_[dim]; }
  [[nodiscard]] int64_t numel() const { return shape_.numel(); }
  // Elements between the starts of consecutive rows (entries of the outermost dimension).
  [[nodiscard]] int64_t row_stride() const { return row_stride_; }
  [[nodiscard]] bool is_contiguous() const { return row_stride_ == row_numel() || shape_[0] <= 1; }
  [[nodiscard]] Void* raw() const { return data_; }

  // The first element; T must be the view's element type.
  template <typename T>
  [[nodiscard]] Element<T>* data() const {
    NF_CHECK(DTypeOf<T>::value == dtype_)
        << "asked for " << dtype_name(DTypeOf<T>::value) << ", tensor is " << dtype_name(dtype_);
    return reinterpret_cast<Element<T>*>(data_);
  }

  // Rows [begin, begin + count) of the outermost dimension.
  [[nodiscard]] BasicTensorView rows(int64_t begin, int64_t count) const {
    NF_CHECK(begin >= 0 && count >= 0 && begin + count <= shape_[0])
        << begin << '+' << count << " of " << shape_[0];
    std::array<int64_t, Shape::kMaxRank> sizes{};
    std::copy(shape_.sizes().begin(), shape_.sizes().end(), sizes.begin());
    sizes[0] = count;
    return strided(data_ + begin * row_stride_ * dtype_bytes(dtype_), dtype_,
                   Shape(std::span<const int64_t>(sizes.data(), static_cast<size_t>(shape_.rank()))),
                   row_stride_);
  }

  // Columns [begin, begin + count) of a matrix; keeps the row stride.
  [[nodiscard]] BasicTensorView columns(int64_t begin, int64_t count) const {
    NF_CHECK(shape_.rank() == 2 && begin >= 0 && count >= 0 && begin + count <= shape_[1])
        << begin << '+' << count << " of " << shape_.to_string();
    return strided(data_ + begin * dtype_bytes(dtype_), dtype_, Shape{shape_[0], count}, row_stride_);
  }

  // The same elements under other sizes; the view must be contiguous.
  [[nodiscard]] BasicTensorView reshape(const Shape& shape) const {
    NF_CHECK(is_contiguous() && shape.numel() == numel())
        << shape_.to_string() << " to " << shape.to_string();
    return BasicTensorView(data_, dtype_, shape);
  }

 private:
  [[nodiscard]] int64_t row_numel() const {
    int64_t count = 1;
    // The minimum is for GCC 12, which otherwise warns of reading beyond the sizes where this is inlined.
    for (int dim = 1; dim < std::min(shape_.rank(), Shape::kMaxRank); ++dim) count *= shape_[dim];
    return count;
  }

  Byte* data_ = nullptr;
  DType dtype_ = DType::kF32;
  Shape shape_;
  int64_t row_stride_ = 0;
};

using TensorView = BasicTensorView<std::byte>;
using ConstTensorView = BasicTensorView<const std::byte>;

}  // namespace nemoforge
