#include "ops/linear/dot_block.h"

#include "base/check.h"

namespace nemoforge::ops {
namespace {

float load_bias(const DotBlock& block, int64_t index) {
  switch (block.bias_dtype) {
    case DType::kBF16:
      return static_cast<float>(static_cast<const Bf16*>(block.bias)[index]);
    case DType::kF16:
      return static_cast<float>(static_cast<const F16*>(block.bias)[index]);
    default:
      return static_cast<const float*>(block.bias)[index];
  }
}

template <typename Out>
void finish_sums_as(const DotBlock& block, int64_t row, int64_t first_out, int64_t count, const float* sums) {
  Out* out = static_cast<Out*>(block.out) + row * block.out_stride + first_out;
  for (int64_t i = 0; i < count; ++i) {
    float value = sums[i];
    if (block.bias != nullptr) value += load_bias(block, first_out + i);
    if (block.accumulate) value = static_cast<float>(out[i]) + block.scale * value;
    out[i] = Out(value);
  }
}

}  // namespace

void finish_sums(const DotBlock& block, int64_t row, int64_t first_out, int64_t count, const float* sums) {
  if (block.out_dtype == DType::kF32) {
    finish_sums_as<float>(block, row, first_out, count, sums);
  } else {
    finish_sums_as<Bf16>(block, row, first_out, count, sums);
  }
}

DotBlockFunction choose_dot_block(DType x, DType weight) {
  static const DotBlockFunction bf16_function = choose_dot_block_bf16();
  if (x == DType::kBF16 && weight == DType::kBF16 && bf16_function != nullptr) return bf16_function;
  return choose_dot_block_f32(x, weight);
}

}  // namespace nemoforge::ops
