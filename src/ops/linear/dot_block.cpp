#include "ops/linear/dot_block.h"

namespace nemoforge::ops {

DotBlockFunction choose_dot_block(DType x, DType weight) {
  static const DotBlockFunction bf16_function = choose_dot_block_bf16();
  if (x == DType::kBF16 && weight == DType::kBF16 && bf16_function != nullptr) return bf16_function;
  return choose_dot_block_f32(x, weight);
}

}  // namespace nemoforge::ops
