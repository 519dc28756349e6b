// Rows of a table: the token embedding, and the choice of the rows whose logits are wanted.
//
//   out[i] = table[ids[i]]
#pragma once

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Exact where the dtypes agree, else one rounding. Every id is in [0, num_embeddings): callers validate, ops
// check.
struct EmbeddingArgs {
  ConstTensorView ids;    // [num_rows] i32
  ConstTensorView table;  // [num_embeddings, hidden_size] f32, bf16 or f16, row stride free
  TensorView out;         // [num_rows, hidden_size] f32 or bf16; does not overlap table
};

// Throws InternalError unless shapes, dtypes and aliasing are as above; does not read the ids, whose memory
// may be a device's.
void check(const EmbeddingArgs& args);

}  // namespace nemoforge::ops
