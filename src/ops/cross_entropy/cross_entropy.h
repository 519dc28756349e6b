// The loss of a row of logits, and its gradient.
//
//   losses[i] = log(sum_j exp(logits[i, j])) - logits[i, targets[i]]
//   d_logits[i, j] = scale * (exp(logits[i, j]) / sum - (j == targets[i]))
//
// A model's head is run on some rows at a time, so that all logits are never there at once.
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Sums and maxima of a row in f64: a loss is good to the rounding of its logits.
struct CrossEntropyArgs {
  ConstTensorView logits;   // [num_rows, vocab_size] f32
  ConstTensorView targets;  // [num_rows] i32, each in [0, vocab_size)
  float scale = 1;          // of the gradient
  TensorView losses;        // [num_rows] f32, written
  TensorView d_logits;  // [num_rows, vocab_size] f32, or bf16 on CUDA, written (not added to); may be logits
                        // (if f32); absent where not wanted
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const CrossEntropyArgs& args);

}  // namespace nemoforge::ops
