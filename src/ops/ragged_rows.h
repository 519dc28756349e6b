// How the rows of a ragged batch belong to sequences. Decode tokens and prefill chunks of several sequences
// stand together in one [num_tokens, ...] tensor; ops that look along a sequence take this description.
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Sequences are ordered with those that advance by one token first: rows [0, num_decode) are one row each of
// sequences 0 .. num_decode - 1. Rows of later sequences follow, each sequence's contiguous and in order.
//
// Invariance: an op's output rows for a sequence depend on that sequence alone and on whether it is among the
// first num_decode, never on what else is in the batch nor on the batch's size. (A decode row may take
// another kernel, with another order of summation, than a prefill row; two decode rows may not.)
struct RaggedRows {
  int64_t num_tokens = 0;       // rows in all
  int64_t num_sequences = 0;    // at least 1
  int64_t num_decode = 0;       // leading sequences of exactly one row that go through the decode kernels
  int64_t max_query_len = 0;    // rows of the longest sequence
  int64_t max_context_len = 0;  // largest context_lens[s] + rows of s

  ConstTensorView
      cu_seqlens;  // [num_sequences + 1] i32: sequence s has rows cu_seqlens[s] .. cu_seqlens[s + 1] - 1
  ConstTensorView
      context_lens;  // [num_sequences] i32: tokens of s before its first row here (0: s begins here)
  ConstTensorView
      state_slots;  // [num_sequences] i32: slot of s in the state caches (absent where no op keeps state)
  ConstTensorView
      block_tables;  // [num_sequences, max_blocks] i32: KV blocks of s in order (absent without attention)
};

}  // namespace nemoforge::ops
