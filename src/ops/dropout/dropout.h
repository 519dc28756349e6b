// Dropout, forward and backward in one: out += keep * x / (1 - probability).
//
// Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (2014), in
// the inverted form of torch.nn.Dropout: what is kept is scaled up in training, so that evaluation does
// nothing. The gradient of the input is the same expression of the gradient of the output.
#pragma once

#include <array>
#include <cstdint>

#include "base/rng.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Which elements are dropped: a function of these and of the element's row and column, so that a pass that is
// run again drops the same.
struct DropoutMask {
  double probability = 0;  // of an element to be dropped, in [0, 1)
  uint64_t seed = 0;
  uint64_t stream = 0;

  // Draws below it are dropped.
  [[nodiscard]] uint32_t threshold() const { return static_cast<uint32_t>(probability * 0x1.0p32); }
  // The draws of elements (row, 4 * quad) .. (row, 4 * quad + 3).
  [[nodiscard]] std::array<uint32_t, 4> draws(int64_t row, int64_t quad) const {
    return philox4x32({static_cast<uint32_t>(quad), static_cast<uint32_t>(row), static_cast<uint32_t>(stream),
                       static_cast<uint32_t>(stream >> 32)},
                      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  }
};

// T: f32, or bf16 on CUDA.
struct DropoutArgs {
  ConstTensorView x;  // [num_rows, features] T, row stride free
  DropoutMask mask;
  TensorView out;  // [num_rows, features] T or f32, row stride free, added to; does not overlap x
};

// Throws InternalError unless shapes, dtypes and aliasing are as above and the probability is in [0, 1).
void check(const DropoutArgs& args);

}  // namespace nemoforge::ops
