// The selective state-space recurrence of Mamba-2 over each sequence of a ragged batch.
//
//   dt[t, h]   = softplus(dt_raw[t, h] + dt_bias[h])                       (no clamp: time_step_limit is [0,
//   inf]) decay      = exp(-exp(A_log[h]) * dt[t, h]) state[h]   = decay * state[h] + dt[t, h] * x[t, h]
//   (outer) B[t, g]     [head_dim, state_size], g = h / (heads / groups) y[t, h]    = state[h] C[t, g] + D[h]
//   * x[t, h]
//
// Source: Dao & Gu, "Transformers are SSMs" (2024), eq. 1 and listing 1 (the chunked form, ssd_minimal.py);
// transformers models/nemotron_h/modeling_nemotron_h.py NemotronHMamba2Mixer.torch_forward.
#pragma once

#include <cstdint>

#include "ops/ragged_rows.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// All arithmetic in fp32; y is rounded once. The first rows->num_decode sequences take the recurrence as
// written; the others may be computed in chunks as matrix products. Chunks end at absolute positions that are
// multiples of chunk_size, so that a prompt prefilled in pieces which end at such positions gives the same
// bits as the whole.
struct SsdScanArgs {
  const RaggedRows* rows = nullptr;  // cu_seqlens, context_lens, state_slots
  ConstTensorView x;                 // [num_tokens, num_heads * head_dim] f32 or bf16, row stride free
  ConstTensorView b;                 // [num_tokens, num_groups * state_size] f32 or bf16, row stride free
  ConstTensorView c;                 // [num_tokens, num_groups * state_size] f32 or bf16, row stride free
  ConstTensorView dt_raw;            // [num_tokens, num_heads] f32 or bf16, row stride free
  ConstTensorView a_log;             // [num_heads] f32
  ConstTensorView d;                 // [num_heads] f32
  ConstTensorView dt_bias;           // [num_heads] f32
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t num_groups = 0;  // divides num_heads
  int64_t state_size = 0;
  int64_t chunk_size = 0;  // config.json's chunk_size
  TensorView ssm_state;    // [num_slots, num_heads, head_dim, state_size] f32. Read where context_lens > 0,
                         // always left up to date. Absent: every sequence begins at position 0 and its state
                         // is not kept (training).
  TensorView y;  // [num_tokens, num_heads * head_dim] f32 or bf16; may be x where strides agree
};

// Throws InternalError unless the preconditions above hold (shapes, dtypes, aliasing; not the contents).
void check(const SsdScanArgs& args);

}  // namespace nemoforge::ops
