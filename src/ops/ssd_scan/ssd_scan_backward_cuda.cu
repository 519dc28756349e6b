// The scan's backward in fp32 for any shape and dtype, in chunks as ssd_scan_backward_steps.cuh has them: a
// block takes one head of a chunk for the states and one group of a chunk for the gradients, a warp one row
// at a time, lanes along the columns. Each gradient is added to by one thread only. Where they apply, the
// tensor cores' kernels take its place.
#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/ssd_scan/ssd_scan_backward_cuda.h"
#include "ops/ssd_scan/ssd_scan_backward_products_cuda.h"
#include "ops/ssd_scan/ssd_scan_backward_steps.cuh"

namespace nemoforge::ops {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;

struct RowProblem {
  ScanGradientProblem scan;
  AnyRows x, b, c, d_y;
  AnyRows d_x, d_b, d_c;
  int head_dim, state_size;
  float* states;     // [num_chunks, num_heads, head_dim, state_size]: before the chunks
  float* gradients;  // likewise: of the states after them
  float* decays;     // [num_chunks, num_heads]
};

__global__ void __launch_bounds__(kThreads) chunk_states(RowProblem problem) {
  __shared__ ChunkDocuments documents;
  __shared__ ChunkSteps steps;
  await_previous_kernel();
  const int head = static_cast<int>(blockIdx.x);
  const int chunk = static_cast<int>(blockIdx.y);
  const int first_row = chunk * kChunkRows;
  const int num_rows = min(kChunkRows, problem.scan.documents.num_rows - first_row);
  const int bc_column = head / problem.scan.heads_per_group * problem.state_size;
  find_chunk_documents(problem.scan.documents, first_row, documents);
  __syncthreads();  // the documents are known
  if (threadIdx.x < 32) {
    make_steps(problem.scan, documents, first_row, head, static_cast<int>(threadIdx.x), steps);
  }
  __syncthreads();  // the steps are there for all
  const int64_t place = static_cast<int64_t>(chunk) * problem.scan.num_heads + head;
  if (threadIdx.x == 0) problem.decays[place] = steps.decay;
  const int state_numel = problem.head_dim * problem.state_size;
  for (int i = static_cast<int>(threadIdx.x); i < state_numel; i += kThreads) {
    const int channel = head * problem.head_dim + i / problem.state_size;
    const int column = bc_column + i % problem.state_size;
    float state = 0;
    float gradient = 0;
    for (int row = 0; row < num_rows; ++row) {
      if (steps.to_end[row] != 0.0f) {
        state += steps.into_state[row] * problem.x.load(first_row + row, channel) *
                 problem.b.load(first_row + row, column);
      }
      if (steps.from_start[row] != 0.0f) {
        gradient += steps.from_start[row] * problem.d_y.load(first_row + row, channel) *
                    problem.c.load(first_row + row, column);
      }
    }
    problem.states[place * state_numel + i] = state;
    problem.gradients[place * state_numel + i] = gradient;
  }
}

// Matrices over the rows of a chunk, zero where row i does not see row j.
struct ChunkMatrices {
  float c_b[kChunkRows][kChunkRows];    // C_i . B_j
  float d_y_x[kChunkRows][kChunkRows];  // d_y_i . x_j
  float decay[kChunkRows][kChunkRows];  // L_ij
};

// A head of a chunk.
struct HeadPart {
  int first_row, num_rows, head;
  int channel;    // its first in x
  int bc_column;  // its group's first in B and C
  const float* state;
  const float* gradient;
};

__device__ inline float product_of_rows(const AnyRows& left, int left_row, int left_column,
                                        const AnyRows& right, int right_row, int right_column, int size) {
  float sum = 0;
  for (int i = 0; i < size; ++i) {
    sum += left.load(left_row, left_column + i) * right.load(right_row, right_column + i);
  }
  return sum;
}

__device__ inline void make_matrices(const RowProblem& problem, const HeadPart& part,
                                     const ChunkDocuments& documents, const ChunkSteps& steps,
                                     bool first_of_group, ChunkMatrices& matrices, ChunkSums& sums) {
  for (int pair = static_cast<int>(threadIdx.x); pair < kChunkRows * kChunkRows; pair += kThreads) {
    const int i = pair / kChunkRows;
    const int j = pair % kChunkRows;
    const bool sees = i < part.num_rows && j <= i && j >= documents.first[i];
    float product = 0;
    if (sees) {
      product = product_of_rows(problem.d_y, part.first_row + i, part.channel, problem.x, part.first_row + j,
                                part.channel, problem.head_dim);
    }
    matrices.d_y_x[i][j] = product;
    matrices.decay[i][j] = sees ? steps.between(i, j) : 0.0f;
    if (i == j) sums.skip[i] = product;
    if (!first_of_group) continue;
    matrices.c_b[i][j] = sees ? product_of_rows(problem.c, part.first_row + i, part.bc_column, problem.b,
                                                part.first_row + j, part.bc_column, problem.state_size)
                              : 0.0f;
  }
}

// Row and column sums of M, a thread each.
__device__ inline void sum_matrices(const ChunkMatrices& matrices, const ChunkSteps& steps, ChunkSums& sums) {
  const int i = static_cast<int>(threadIdx.x) % kChunkRows;
  float sum = 0;
  if (threadIdx.x < kChunkRows) {
    for (int j = 0; j <= i; ++j) {
      sum += steps.dt[j] * matrices.decay[i][j] * matrices.c_b[i][j] * matrices.d_y_x[i][j];
    }
    sums.rows[i] = sum;
  } else if (threadIdx.x < 2 * kChunkRows) {
    for (int j = i; j < kChunkRows; ++j) {
      sum += matrices.decay[j][i] * matrices.c_b[j][i] * matrices.d_y_x[j][i];
    }
    sums.columns[i] = sum;
  }
}

// d_C and d_B of row i, by a warp.
__device__ inline void add_bc_gradients(const RowProblem& problem, const HeadPart& part,
                                        const ChunkSteps& steps, const ChunkMatrices& matrices, int i,
                                        int lane, ChunkSums& sums) {
  const int row = part.first_row + i;
  float from_state = 0;
  float to_state = 0;
  for (int n = lane; n < problem.state_size; n += 32) {
    const int column = part.bc_column + n;
    float d_c = 0;
    float d_b = 0;
    for (int j = 0; j <= i; ++j) {
      d_c += matrices.decay[i][j] * steps.dt[j] * matrices.d_y_x[i][j] *
             problem.b.load(part.first_row + j, column);
    }
    for (int j = i; j < part.num_rows; ++j) {
      d_b += matrices.decay[j][i] * matrices.d_y_x[j][i] * problem.c.load(part.first_row + j, column);
    }
    float along_state = 0;
    float along_gradient = 0;
    for (int p = 0; p < problem.head_dim; ++p) {
      along_state += problem.d_y.load(row, part.channel + p) * part.state[p * problem.state_size + n];
      along_gradient += problem.x.load(row, part.channel + p) * part.gradient[p * problem.state_size + n];
    }
    along_state *= steps.from_start[i];
    from_state += along_state * problem.c.load(row, column);
    to_state += along_gradient * problem.b.load(row, column);
    problem.d_c.add(row, column, d_c + along_state);
    problem.d_b.add(row, column, steps.dt[i] * (d_b + steps.to_end[i] * along_gradient));
  }
  from_state = warp_sum(from_state);
  to_state = warp_sum(to_state);
  if (lane > 0) return;
  sums.from_state[i] = from_state;
  sums.to_state[i] = to_state;
}

// d_x of row j, by a warp.
__device__ inline void add_x_gradient(const RowProblem& problem, const HeadPart& part,
                                      const ChunkSteps& steps, const ChunkMatrices& matrices, int j,
                                      int lane) {
  const int row = part.first_row + j;
  for (int p = lane; p < problem.head_dim; p += 32) {
    float along_b = 0;
    for (int n = 0; n < problem.state_size; ++n) {
      along_b += part.gradient[p * problem.state_size + n] * problem.b.load(row, part.bc_column + n);
    }
    float sum = steps.to_end[j] * along_b;
    for (int i = j; i < part.num_rows; ++i) {
      sum +=
          matrices.decay[i][j] * matrices.c_b[i][j] * problem.d_y.load(part.first_row + i, part.channel + p);
    }
    problem.d_x.add(row, part.channel + p,
                    steps.dt[j] * sum + problem.scan.d[part.head] * problem.d_y.load(row, part.channel + p));
  }
}

__global__ void __launch_bounds__(kThreads) chunk_gradients(RowProblem problem) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ ChunkDocuments documents;
  __shared__ ChunkSteps steps;
  __shared__ ChunkSums sums;
  __shared__ float scratch[32];
  await_previous_kernel();
  auto& matrices = *reinterpret_cast<ChunkMatrices*>(shared);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = static_cast<int>(blockIdx.x);
  const int chunk = static_cast<int>(blockIdx.y);
  const int state_numel = problem.head_dim * problem.state_size;
  HeadPart part{};
  part.first_row = chunk * kChunkRows;
  part.num_rows = min(kChunkRows, problem.scan.documents.num_rows - part.first_row);
  part.bc_column = group * problem.state_size;
  find_chunk_documents(problem.scan.documents, part.first_row, documents);
  const int first_head = group * problem.scan.heads_per_group;
  for (int head = first_head; head < first_head + problem.scan.heads_per_group; ++head) {
    const int64_t place = static_cast<int64_t>(chunk) * problem.scan.num_heads + head;
    part.head = head;
    part.channel = head * problem.head_dim;
    part.state = problem.states + place * state_numel;
    part.gradient = problem.gradients + place * state_numel;
    __syncthreads();  // the documents are known; nobody reads the last head's steps and sums any more
    if (warp == 0) make_steps(problem.scan, documents, part.first_row, head, lane, steps);
    __syncthreads();  // the steps are there for all
    make_matrices(problem, part, documents, steps, head == first_head, matrices, sums);
    __syncthreads();  // the matrices are there for all
    sum_matrices(matrices, steps, sums);
    for (int i = warp; i < kChunkRows; i += kWarps) {
      if (i < part.num_rows) {
        add_bc_gradients(problem, part, steps, matrices, i, lane, sums);
        add_x_gradient(problem, part, steps, matrices, i, lane);
      } else if (lane == 0) {
        sums.from_state[i] = sums.to_state[i] = 0;
      }
    }
    float across = 0;
    for (int i = static_cast<int>(threadIdx.x); steps.decay != 0.0f && i < state_numel; i += kThreads) {
      across += part.state[i] * part.gradient[i];
    }
    across = block_sum(across, scratch);
    if (threadIdx.x == 0) sums.across = steps.decay * across;
    __syncthreads();  // the sums are there for all
    if (warp == 0) add_step_gradients(problem.scan, documents, steps, sums, chunk, head, lane);
  }
}

void launch(const RowProblem& problem, int num_groups, OpStream& stream) {
  const auto num_chunks = static_cast<unsigned>(problem.scan.num_chunks);
  const auto num_heads = static_cast<unsigned>(problem.scan.num_heads);
  const int state_numel = problem.head_dim * problem.state_size;
  stream.launch(chunk_states, dim3(num_heads, num_chunks), kThreads, 0, problem);
  const int64_t numel = static_cast<int64_t>(problem.scan.num_heads) * state_numel;
  stream.launch(pass_states<float, 1>, dim3(static_cast<unsigned>(ceil_div<int64_t>(numel, kThreads)), 2),
                kThreads, 0, problem.states, problem.gradients, problem.decays, problem.scan.num_chunks,
                problem.scan.num_heads, state_numel);
  constexpr int kSharedBytes = sizeof(ChunkMatrices);
  CUDA_CHECK(
      cudaFuncSetAttribute(chunk_gradients, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
  stream.launch(chunk_gradients, dim3(static_cast<unsigned>(num_groups), num_chunks), kThreads, kSharedBytes,
                problem);
}

}  // namespace

void ssd_scan_backward_cuda(const SsdScanBackwardArgs& args, CudaTrainingContext& context) {
  NF_CHECK(num_chunks_of(args) <= 65535) << args.rows->num_tokens << " rows";
  if (args.rows->num_tokens == 0) return;
  if (ssd_scan_backward_has_products(args)) return ssd_scan_backward_products(args, context);
  const int64_t heads = num_chunks_of(args) * args.num_heads;
  const int64_t state_floats = heads * args.head_dim * args.state_size;
  const int64_t num_floats = 2 * state_floats + heads + (args.d_a_log ? 3 * heads : 0);
  auto* states = static_cast<float*>(context.memory(num_floats * static_cast<int64_t>(sizeof(float))));
  float* gradients = states + state_floats;
  float* decays = gradients + state_floats;
  float* partials = args.d_a_log ? decays + heads : nullptr;
  const RowProblem problem{scan_gradient_problem(args, partials),
                           any_rows(args.x),
                           any_rows(args.b),
                           any_rows(args.c),
                           any_rows(args.d_y),
                           any_rows(args.d_x),
                           any_rows(args.d_b),
                           any_rows(args.d_c),
                           static_cast<int>(args.head_dim),
                           static_cast<int>(args.state_size),
                           states,
                           gradients,
                           decays};
  launch(problem, static_cast<int>(args.num_groups), context.stream());
  add_parameter_gradients(args, problem.scan, context.stream());
}

}  // namespace nemoforge::ops
