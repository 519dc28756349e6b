// Flash attention's backward on tensor cores (Dao, "FlashAttention-2", 2023, algorithm 2), without atomics:
// each gradient has one owner, and the same calls give the same bits. The weights are computed three times
// (once for the sums, once for each owner): nine products of a visible (query, key) pair instead of seven.
//
// 1. query_gradients: a block owns 128 (row, head) pairs of one KV head, rows major, so that each tile of
//    keys is read once for all the heads, and visits the keys of their documents twice: first for the
//    softmax's normalisation and delta = sum_j p d_p, which it leaves for the second kernel; then for d_q.
// 2. key_gradients: a block owns 128 keys of one KV head and a share of its query heads, and visits the rows
//    that see the keys. The shares of d_k and d_v are f32 in scratch memory.
// 3. add_key_gradients adds the shares in order.
//
// In both, weights stay in registers from the product that makes them to the product that takes them. The
// next tile is copied while one is computed (128 KiB of shared memory for heads of 128). Rows stand in the
// batch one after the other, whatever documents they belong to: a key is seen from its document's rows alone.
#include <climits>

#include "base/integers.h"
#include "ops/attention/attention_backward_tiles.cuh"
#include "ops/attention/attention_backward_tiles_cuda.h"

namespace nemoforge::ops {
namespace {

using Bf = __nv_bfloat16;

constexpr float kLog2E = 1.44269504088896340736f;
constexpr int kBeginThreads = 128;

__global__ void find_begins(DocumentRows documents, int* begins) {
  await_previous_kernel();
  const int row = static_cast<int>(blockIdx.x) * kBeginThreads + static_cast<int>(threadIdx.x);
  if (row < documents.num_rows) begins[row] = document_of(documents, row).begin;
}

constexpr int kAddThreads = 128;

__global__ void add_key_gradients(const float* shares, int num_splits, int num_rows, int kv_size,
                                  DeviceRows<Bf> d_k, DeviceRows<Bf> d_v) {
  await_previous_kernel();
  const int64_t numel = static_cast<int64_t>(num_rows) * kv_size;
  const int64_t place = static_cast<int64_t>(blockIdx.x) * kAddThreads + threadIdx.x;
  if (place >= numel) return;
  float d_key = 0;
  float d_value = 0;
  for (int split = 0; split < num_splits; ++split) {
    d_key += shares[2 * split * numel + place];
    d_value += shares[(2 * split + 1) * numel + place];
  }
  add_to(d_k.at(place / kv_size, place % kv_size), d_key);
  add_to(d_v.at(place / kv_size, place % kv_size), d_value);
}

// Into how many shares the query heads of a KV head are split, so that key_gradients' blocks, of which an
// H100 runs 132 at a time, fill it twice and the longest ones do not run alone at the end.
int64_t choose_num_splits(int64_t num_blocks, int64_t heads_per_kv_head) {
  constexpr int64_t kWantedBlocks = 256;
  int64_t splits = 1;
  while (splits < heads_per_kv_head &&
         (num_blocks * splits < kWantedBlocks || heads_per_kv_head % splits != 0)) {
    ++splits;
  }
  return splits;
}

}  // namespace

bool attention_backward_has_tiles(const AttentionBackwardArgs& args) {
  return args.q.dtype() == DType::kBF16 &&
         (args.head_dim == 32 || args.head_dim == 64 || args.head_dim == 128) &&
         args.num_heads * args.rows->num_tokens <= INT_MAX && args.num_kv_heads <= 65535 &&
         args.rows->num_tokens <= 65535 * kAttentionOwnRows;
}

void attention_backward_tiles(const AttentionBackwardArgs& args, CudaTrainingContext& context) {
  const int64_t num_rows = args.rows->num_tokens;
  const int64_t heads_per_kv_head = args.num_heads / args.num_kv_heads;
  const int64_t num_splits = choose_num_splits(
      ceil_div<int64_t>(num_rows, kAttentionOwnRows) * args.num_kv_heads, heads_per_kv_head);
  const int64_t kv_numel = num_rows * args.num_kv_heads * args.head_dim;
  // Shares first: they are written in pairs.
  const int64_t share_floats = 2 * num_splits * kv_numel;
  const int64_t row_floats = num_rows * args.num_heads;
  auto* shares = static_cast<float*>(
      context.memory((share_floats + 2 * row_floats + num_rows) * static_cast<int64_t>(sizeof(float))));
  float* log_sums = shares + share_floats;
  float* deltas = log_sums + row_floats;
  const AttentionGradientProblem problem{
      bf16_rows(args.q),
      bf16_rows(args.k),
      bf16_rows(args.v),
      bf16_rows(args.d_out),
      {args.rows->cu_seqlens.data<int32_t>(), static_cast<int>(args.rows->num_sequences),
       static_cast<int>(num_rows)},
      static_cast<int>(args.num_heads),
      static_cast<int>(heads_per_kv_head),
      static_cast<int>(heads_per_kv_head / num_splits),
      args.scale,
      args.scale * kLog2E,
      reinterpret_cast<int*>(deltas + row_floats),
      log_sums,
      deltas,
      shares};
  const auto blocks = [](int64_t count, int64_t of_a_block) {
    return dim3(static_cast<unsigned>(ceil_div(count, of_a_block)));
  };
  const auto head_dim = static_cast<int>(args.head_dim);
  OpStream& stream = context.stream();
  stream.launch(find_begins, blocks(num_rows, kBeginThreads), kBeginThreads, 0, problem.documents,
                problem.begins);
  launch_query_gradients(problem, head_dim, bf16_gradient(args.d_q), stream);
  launch_key_gradients(problem, head_dim, stream);
  stream.launch(add_key_gradients, blocks(kv_numel, kAddThreads), kAddThreads, 0,
                static_cast<const float*>(shares), static_cast<int>(num_splits), static_cast<int>(num_rows),
                static_cast<int>(args.num_kv_heads * args.head_dim), device_rows<Bf>(args.d_k),
                device_rows<Bf>(args.d_v));
}

}  // namespace nemoforge::ops
