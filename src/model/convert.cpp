#include "model/convert.h"

#include <cstring>

#include "base/check.h"

namespace nemoforge::model {
namespace {

template <typename From, typename To>
void convert(const From* from, To* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(static_cast<float>(from[i]));
}

template <typename From>
void convert_from(const From* from, const TensorView& to) {
  switch (to.dtype()) {
    case DType::kF32:
      return convert(from, to.data<float>(), to.numel());
    case DType::kBF16:
      return convert(from, to.data<Bf16>(), to.numel());
    case DType::kF16:
      return convert(from, to.data<F16>(), to.numel());
    default:
      NF_CHECK(false) << dtype_name(to.dtype());
  }
}

}  // namespace

bool is_dense_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

void convert_elements(const ConstTensorView& from, const TensorView& to) {
  NF_CHECK(from.is_contiguous() && to.is_contiguous() && from.numel() == to.numel())
      << from.shape().to_string() << " to " << to.shape().to_string();
  switch (from.dtype()) {
    case DType::kF32:
      return convert_from(from.data<float>(), to);
    case DType::kBF16:
      return convert_from(from.data<Bf16>(), to);
    case DType::kF16:
      return convert_from(from.data<F16>(), to);
    default:
      NF_CHECK(false) << dtype_name(from.dtype());
  }
}

}  // namespace nemoforge::model
