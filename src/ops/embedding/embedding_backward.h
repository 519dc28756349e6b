// The backward of embedding: d_table[ids[i]] += d_out[i].
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

struct EmbeddingBackwardArgs {
  ConstTensorView ids;    // [num_rows] i32, each in [0, num_embeddings)
  ConstTensorView d_out;  // [num_rows, hidden_size] f32
  TensorView d_table;     // [num_embeddings, hidden_size] f32, added to in the order of the rows
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const EmbeddingBackwardArgs& args);

}  // namespace nemoforge::ops
