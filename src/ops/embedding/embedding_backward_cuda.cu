// A block a row whose id no earlier row has: it adds up all rows of that id, in their order. Finding them
// costs num_rows^2 reads of ids from the L2 cache: 3 ms at 65,536 rows, and no sort.
#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/embedding/embedding_backward_cuda.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 16;  // a thread's, of hidden_size <= kThreads * kColumns at a time

__global__ void add_rows_of_ids(const int32_t* ids, int num_rows, const float* d_out, int64_t d_out_stride,
                                int num_embeddings, int hidden_size, float* d_table, int64_t d_table_stride) {
  __shared__ int warp_counts[kThreads / 32];
  __shared__ int found[kThreads];
  const int row = static_cast<int>(blockIdx.x);
  const int first_column = static_cast<int>(blockIdx.y) * kThreads * kColumns;
  const int thread = static_cast<int>(threadIdx.x);
  const int32_t id = ids[row];
  if (id < 0 || id >= num_embeddings) __trap();
  for (int first = 0; first < row; first += kThreads) {
    const bool same = first + thread < row && ids[first + thread] == id;
    if (__syncthreads_or(same)) return;
  }
  float sums[kColumns];
  float* target = d_table + id * d_table_stride + first_column;
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    const int column = i * kThreads + thread;
    sums[i] = first_column + column < hidden_size ? target[column] : 0.0f;
  }
  for (int first = row; first < num_rows; first += kThreads) {
    const bool same = first + thread < num_rows && ids[first + thread] == id;
    const unsigned in_warp = __ballot_sync(0xffffffffu, same);
    __syncthreads();  // the previous chunk's list has been read
    if (thread % 32 == 0) warp_counts[thread / 32] = __popc(in_warp);
    __syncthreads();  // every warp's count is written
    int place = __popc(in_warp & ((1u << (thread % 32)) - 1));
    int count = 0;
    for (int warp = 0; warp < kThreads / 32; ++warp) {
      if (warp < thread / 32) place += warp_counts[warp];
      count += warp_counts[warp];
    }
    if (same) found[place] = first + thread;
    __syncthreads();  // the list is written
    for (int i = 0; i < count; ++i) {
      const float* source = d_out + found[i] * d_out_stride + first_column;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int column = j * kThreads + thread;
        if (first_column + column < hidden_size) sums[j] += source[column];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    const int column = i * kThreads + thread;
    if (first_column + column < hidden_size) target[column] = sums[i];
  }
}

}  // namespace

void embedding_backward_cuda(const EmbeddingBackwardArgs& args, CudaTrainingContext& context) {
  if (args.d_out.numel() == 0) return;
  const int64_t hidden_size = args.d_out.size(1);
  const dim3 grid(static_cast<unsigned>(args.d_out.size(0)),
                  static_cast<unsigned>(ceil_div<int64_t>(hidden_size, kThreads * kColumns)));
  add_rows_of_ids<<<grid, kThreads, 0, context.stream()>>>(
      args.ids.data<int32_t>(), narrow<int32_t>(args.d_out.size(0)), args.d_out.data<float>(),
      args.d_out.row_stride(), narrow<int32_t>(args.d_table.size(0)), static_cast<int>(hidden_size),
      args.d_table.data<float>(), args.d_table.row_stride());
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
