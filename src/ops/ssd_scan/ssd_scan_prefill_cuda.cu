// The selective scan in chunks of kChunk rows as matrix products (Dao & Gu 2024, listing 1), on tensor cores.
//
// A block owns kChannels channels of one head of one sequence and walks the sequence's chunks; the state
// stays in its registers in fp32. With s_i the sum of a dt over the chunk's rows up to i, a chunk is
//   scores[i, j] = (C_i . B_j) exp(s_i - s_j) dt_j for j <= i
//   y_i          = sum_j scores[i, j] x_j + exp(s_i) state C_i + D x_i
//   state        = exp(s_last) state + sum_j (exp(s_last - s_j) dt_j) x_j (outer) B_j
// x, B and C are bf16, so that one operand of each product is exact; the other (scores, state, scaled B) is
// fp32 split in two bf16 parts, two products that keep 2^-17 relative. s is kept in two floats: differences
// of large sums stay good to 2^-24 of the difference.
//
// Chunks begin at absolute positions that are multiples of kChunk, and rows outside the batch's part of a
// sequence have dt = 0: a prompt in pieces that end at such positions gives the bits of the whole. While a
// chunk is computed the next one is copied (88 KiB of shared memory in two buffers, one for the state).
#include <cfloat>

#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/ssd_scan/ssd_scan_prefill_cuda.h"
#include "ops/tensor_core.cuh"

namespace nemoforge::ops {
namespace {

using Bf = __nv_bfloat16;

constexpr int kChunk = 64;
constexpr int kChannels = 32;
constexpr int kWarps = 4;  // each 16 rows of the chunk, and a quarter of the state's columns
constexpr int kThreads = kWarps * 32;
// exp of less is zero in fp32; sums of steps no larger than this stay finite.
constexpr float kLeastLogDecay = -104.0f;

struct BfRows {
  const Bf* data;
  int64_t stride;
};

struct ScanProblem {
  BfRows x, b, c, dt_raw;
  const float* a_log;
  const float* d;
  const float* dt_bias;
  const int32_t* cu_seqlens;
  const int32_t* context_lens;
  const int32_t* state_slots;
  float* ssm_state;  // null: from zero, not kept
  int num_heads, head_dim, heads_per_group, first_sequence;
  bool aligned;  // rows of x, B and C begin at multiples of 16 bytes
};

// What the products need to know of a row of the chunk.
struct alignas(16) RowStep {
  float sum_high;  // s_j in two floats
  float sum_low;
  float dt;
  float to_end;  // exp(s_last - s_j) dt_j
};

template <int kState>
struct Chunk {
  SharedTile<kState> b;     // [kChunk, state]
  SharedTile<kState> c;     // [kChunk, state]
  SharedTile<kChannels> x;  // [kChunk, channels]
  RowStep* steps;           // [kChunk]
  float* from_start;        // [kChunk]: exp(s_i)
};

template <int kState>
struct SharedLayout {
  static constexpr int kTileElements = kChunk * (2 * kState + kChannels);
  static constexpr int kStepBytes = kChunk * static_cast<int>(sizeof(RowStep) + sizeof(float));
  static constexpr int kChunkBytes = kTileElements * 2 + kStepBytes;
  static constexpr int kStateElements = kChannels * kState;
  static constexpr int kBytes = 2 * kChunkBytes + 2 * kStateElements * 2;

  __device__ static Chunk<kState> chunk(unsigned char* shared, int buffer) {
    unsigned char* begin = shared + buffer * kChunkBytes;
    Bf* tiles = reinterpret_cast<Bf*>(begin);
    auto* steps = reinterpret_cast<RowStep*>(begin + kTileElements * 2);
    return {{tiles},
            {tiles + kChunk * kState},
            {tiles + 2 * kChunk * kState},
            steps,
            reinterpret_cast<float*>(steps + kChunk)};
  }
  // The state of the block's channels as [channels, state], high parts and low parts.
  __device__ static SharedTile<kState> state(unsigned char* shared, int part) {
    return {reinterpret_cast<Bf*>(shared + 2 * kChunkBytes) + part * kStateElements};
  }
};

// The block's part of the problem.
struct Part {
  int head, group, first_channel, num_channels;
  int begin, end;      // rows of the batch
  int first_position;  // of row `begin`
  __device__ int row(int position) const { return begin + position - first_position; }
  __device__ bool has(int row) const { return row >= begin && row < end; }
};

// Starts the copy of `num_pieces` pieces of each of the chunk's rows from `column` on.
template <int kColumns>
__device__ void load_rows(const SharedTile<kColumns>& tile, const BfRows& rows, const Part& part,
                          int first_row, int column, int num_columns, bool aligned) {
  constexpr int kPieces = kColumns / kPieceElements;
  for (int i = static_cast<int>(threadIdx.x); i < kChunk * kPieces; i += kThreads) {
    const int row = i / kPieces;
    const int piece = i % kPieces;
    const bool valid = part.has(first_row + row) && piece * kPieceElements < num_columns;
    const Bf* source = rows.data;
    if (valid) source += (first_row + row) * rows.stride + column + piece * kPieceElements;
    copy_piece(tile.piece(row, piece), source, valid, aligned);
  }
}

__device__ double warp_prefix_sum(double value, int lane) {
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const double before = __shfl_up_sync(0xffffffffu, value, distance);
    if (lane >= distance) value += before;
  }
  return value;
}

// The steps of one head as one warp makes them; a lane has rows 2 lane and 2 lane + 1 of a chunk. The raw
// steps are read a chunk ahead, so that nobody waits for them.
struct StepMaker {
  float a;
  float bias;
  float raw[2];
  bool exists[2];
};

__device__ StepMaker make_step_maker(const ScanProblem& problem, const Part& part) {
  StepMaker maker = {};
  maker.a = fmaxf(-expf(problem.a_log[part.head]), -FLT_MAX);  // -inf times a step of 0 would be NaN
  maker.bias = problem.dt_bias[part.head];
  return maker;
}

__device__ void read_raw_steps(const ScanProblem& problem, const Part& part, int first_row, int lane,
                               StepMaker& maker) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + 2 * lane + i;
    maker.exists[i] = part.has(row);
    maker.raw[i] =
        maker.exists[i] ? to_float(problem.dt_raw.data[row * problem.dt_raw.stride + part.head]) : 0.0f;
  }
}

__device__ void prepare_steps(const StepMaker& maker, RowStep* steps, float* from_start, int lane) {
  float dt[2];
  double log_decay[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    dt[i] = maker.exists[i] ? softplus(maker.raw[i] + maker.bias) : 0.0f;
    log_decay[i] = fmaxf(maker.a * dt[i], kLeastLogDecay);
  }
  const double second = warp_prefix_sum(log_decay[0] + log_decay[1], lane);
  const double sums[2] = {second - log_decay[1], second};
  const double last = __shfl_sync(0xffffffffu, second, 31);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const auto high = static_cast<float>(sums[i]);
    steps[2 * lane + i] = {high, static_cast<float>(sums[i] - high), dt[i],
                           expf(static_cast<float>(last - sums[i])) * dt[i]};
    from_start[2 * lane + i] = expf(high);
  }
}

// scores of rows [row, row + 16) as the left operand of scores x, in two parts; j < row + 16 alone are set.
template <int kState>
__device__ void compute_scores(const Chunk<kState>& chunk, int row, int lane,
                               uint32_t (&high)[kChunk / 16][4], uint32_t (&low)[kChunk / 16][4]) {
  float products[kChunk / 8][4] = {};
#pragma unroll
  for (int n = 0; n < kState; n += 16) {
    uint32_t c[4];
    load_a(c, chunk.c, row, n, lane);
#pragma unroll
    for (int j = 0; j < kChunk / 16; ++j) {
      if (j * 16 > row) break;
      uint32_t b[4];
      load_b(b, chunk.b, j * 16, n, lane);
      multiply_add(products[2 * j], c, b[0], b[1]);
      multiply_add(products[2 * j + 1], c, b[2], b[3]);
    }
  }
  const int own_rows[2] = {row + lane / 4, row + lane / 4 + 8};
  const RowStep own_steps[2] = {chunk.steps[own_rows[0]], chunk.steps[own_rows[1]]};
#pragma unroll
  for (int block = 0; block < kChunk / 8; ++block) {
    if (block * 8 >= row + 16) break;
    const int first = block * 8 + lane % 4 * 2;
    const RowStep steps[2] = {chunk.steps[first], chunk.steps[first + 1]};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float scores[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float exponent =
            (own_steps[half].sum_high - steps[i].sum_high) + (own_steps[half].sum_low - steps[i].sum_low);
        const float factor = first + i <= own_rows[half] ? __expf(exponent) * steps[i].dt : 0.0f;
        scores[i] = products[block][2 * half + i] * factor;
      }
      const SplitPair pair = split(scores[0], scores[1]);
      high[block / 2][block % 2 * 2 + half] = pair.high;
      low[block / 2][block % 2 * 2 + half] = pair.low;
    }
  }
}

// y of rows [row, row + 16) without D x.
template <int kState>
__device__ void compute_y(const Chunk<kState>& chunk, unsigned char* shared, int row, int lane,
                          float (&y)[kChannels / 8][4]) {
  using Layout = SharedLayout<kState>;
#pragma unroll
  for (int n = 0; n < kState; n += 16) {
    uint32_t c[4];
    load_a(c, chunk.c, row, n, lane);
#pragma unroll
    for (int part = 0; part < 2; ++part) {
#pragma unroll
      for (int p = 0; p < kChannels / 16; ++p) {
        uint32_t state[4];
        load_b(state, Layout::state(shared, part), p * 16, n, lane);
        multiply_add(y[2 * p], c, state[0], state[1]);
        multiply_add(y[2 * p + 1], c, state[2], state[3]);
      }
    }
  }
  const float decays[2] = {chunk.from_start[row + lane / 4], chunk.from_start[row + lane / 4 + 8]};
#pragma unroll
  for (int p = 0; p < kChannels / 8; ++p) {
#pragma unroll
    for (int i = 0; i < 4; ++i) y[p][i] *= decays[i / 2];
  }
  uint32_t high[kChunk / 16][4];
  uint32_t low[kChunk / 16][4];
  compute_scores(chunk, row, lane, high, low);
#pragma unroll
  for (int j = 0; j < kChunk / 16; ++j) {
    if (j * 16 > row) break;
#pragma unroll
    for (int p = 0; p < kChannels / 16; ++p) {
      uint32_t x[4];
      load_b_transposed(x, chunk.x, j * 16, p * 16, lane);
      multiply_add(y[2 * p], high[j], x[0], x[1]);
      multiply_add(y[2 * p + 1], high[j], x[2], x[3]);
      multiply_add(y[2 * p], low[j], x[0], x[1]);
      multiply_add(y[2 * p + 1], low[j], x[2], x[3]);
    }
  }
}

template <int kState, typename OutT>
__device__ void store_y(const ScanProblem& problem, const Part& part, const Chunk<kState>& chunk,
                        int first_row, int row, int lane, const float (&y)[kChannels / 8][4], OutT* out,
                        int64_t out_stride) {
  const float d = problem.d[part.head];
  const bool paired = out_stride % 2 == 0 && problem.head_dim % 2 == 0 &&
                      reinterpret_cast<uintptr_t>(out) % (2 * sizeof(OutT)) == 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int own_row = row + lane / 4 + half * 8;
    if (!part.has(first_row + own_row)) continue;
#pragma unroll
    for (int p = 0; p < kChannels / 8; ++p) {
      const int channel = p * 8 + lane % 4 * 2;
      if (channel >= part.num_channels) continue;  // num_channels is a multiple of 8
      OutT* target = out + (first_row + own_row) * out_stride + part.head * problem.head_dim +
                     part.first_channel + channel;
      store_pair(target, y[p][2 * half] + d * to_float(chunk.x.at(own_row, channel)),
                 y[p][2 * half + 1] + d * to_float(chunk.x.at(own_row, channel + 1)), paired);
    }
  }
}

// Columns [first, first + kState / kWarps) of the state, all the block's channels: as the sums of products of
// 16 channels x 8 columns.
template <int kState>
using StateSums = float[kChannels / 16][kState / kWarps / 8][4];

template <int kState>
__device__ void update_state(const Chunk<kState>& chunk, int first_column, int lane,
                             StateSums<kState>& state) {
  constexpr int kBlocks = kState / kWarps / 8;
  const float decay = chunk.from_start[kChunk - 1];
#pragma unroll
  for (int p = 0; p < kChannels / 16; ++p) {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) state[p][block][i] *= decay;
    }
  }
#pragma unroll
  for (int j = 0; j < kChunk; j += 16) {
    uint32_t x[kChannels / 16][4];
#pragma unroll
    for (int p = 0; p < kChannels / 16; ++p) load_a_transposed(x[p], chunk.x, j, p * 16, lane);
    const int own = j + lane % 4 * 2;
    const float scales[4] = {chunk.steps[own].to_end, chunk.steps[own + 1].to_end,
                             chunk.steps[own + 8].to_end, chunk.steps[own + 9].to_end};
#pragma unroll
    for (int block = 0; block < kBlocks; block += 2) {
      uint32_t b[4];
      load_b_transposed(b, chunk.b, j, first_column + block * 8, lane);
      SplitPair scaled[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const auto pair = *reinterpret_cast<const __nv_bfloat162*>(&b[i]);
        scaled[i] = split(__low2float(pair) * scales[i % 2 * 2], __high2float(pair) * scales[i % 2 * 2 + 1]);
      }
#pragma unroll
      for (int p = 0; p < kChannels / 16; ++p) {
        multiply_add(state[p][block], x[p], scaled[0].high, scaled[1].high);
        multiply_add(state[p][block + 1], x[p], scaled[2].high, scaled[3].high);
        multiply_add(state[p][block], x[p], scaled[0].low, scaled[1].low);
        multiply_add(state[p][block + 1], x[p], scaled[2].low, scaled[3].low);
      }
    }
  }
}

// Calls function(pair of the state, channel, column) for each pair of columns that the lane has.
template <int kState, typename Function>
__device__ void for_each_pair(StateSums<kState>& state, int first_column, int lane, Function&& function) {
#pragma unroll
  for (int p = 0; p < kChannels / 16; ++p) {
#pragma unroll
    for (int block = 0; block < kState / kWarps / 8; ++block) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        function(&state[p][block][2 * half], p * 16 + lane / 4 + half * 8,
                 first_column + block * 8 + lane % 4 * 2);
      }
    }
  }
}

template <int kState>
__device__ void share_state(StateSums<kState>& state, unsigned char* shared, int first_column, int lane) {
  const SharedTile<kState> high = SharedLayout<kState>::state(shared, 0);
  const SharedTile<kState> low = SharedLayout<kState>::state(shared, 1);
  for_each_pair<kState>(state, first_column, lane, [&](const float* pair, int channel, int column) {
    const SplitPair parts = split(pair[0], pair[1]);
    *reinterpret_cast<uint32_t*>(&high.at(channel, column)) = parts.high;
    *reinterpret_cast<uint32_t*>(&low.at(channel, column)) = parts.low;
  });
}

__device__ Part part_of_block(const ScanProblem& problem) {
  const int parts_per_head = (problem.head_dim + kChannels - 1) / kChannels;
  const int sequence = problem.first_sequence + static_cast<int>(blockIdx.y);
  Part part;
  part.head = static_cast<int>(blockIdx.x) / parts_per_head;
  part.group = part.head / problem.heads_per_group;
  part.first_channel = static_cast<int>(blockIdx.x) % parts_per_head * kChannels;
  part.num_channels = min(kChannels, problem.head_dim - part.first_channel);
  part.begin = problem.cu_seqlens[sequence];
  part.end = problem.cu_seqlens[sequence + 1];
  part.first_position = problem.ssm_state == nullptr ? 0 : problem.context_lens[sequence];
  return part;
}

template <int kState, typename OutT>
__global__ void __launch_bounds__(kThreads, 2) scan_chunks(ScanProblem problem, OutT* y, int64_t y_stride) {
  extern __shared__ __align__(128) unsigned char shared[];
  using Layout = SharedLayout<kState>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first_column = warp * (kState / kWarps);
  const Part part = part_of_block(problem);

  StateSums<kState> state = {};
  float* stored = nullptr;
  if (problem.ssm_state != nullptr) {
    const int64_t slot = problem.state_slots[problem.first_sequence + blockIdx.y];
    stored = problem.ssm_state +
             ((slot * problem.num_heads + part.head) * problem.head_dim + part.first_channel) * kState;
    if (part.first_position > 0) {
      for_each_pair<kState>(state, first_column, lane, [&](float* pair, int channel, int column) {
        if (channel >= part.num_channels) return;
        const auto values = *reinterpret_cast<const float2*>(stored + channel * kState + column);
        pair[0] = values.x;
        pair[1] = values.y;
      });
    }
  }
  share_state<kState>(state, shared, first_column, lane);

  const int first_chunk = part.first_position / kChunk;
  const int end_chunk = (part.first_position + part.end - part.begin + kChunk - 1) / kChunk;
  StepMaker step_maker = make_step_maker(problem, part);
  // Warp 0, which has the fewest scores.
  const auto prepare = [&](int index) {
    const Chunk<kState> chunk = Layout::chunk(shared, index % 2);
    if (warp == 0) prepare_steps(step_maker, chunk.steps, chunk.from_start, lane);
  };
  const auto load = [&](int index) {
    const Chunk<kState> chunk = Layout::chunk(shared, index % 2);
    const int first_row = part.row(index * kChunk);
    load_rows(chunk.c, problem.c, part, first_row, part.group * kState, kState, problem.aligned);
    load_rows(chunk.b, problem.b, part, first_row, part.group * kState, kState, problem.aligned);
    load_rows(chunk.x, problem.x, part, first_row, part.head * problem.head_dim + part.first_channel,
              part.num_channels, problem.aligned);
    commit_copies();
    if (warp == 0) read_raw_steps(problem, part, first_row, lane, step_maker);
  };
  if (part.begin < part.end) {
    load(first_chunk);
    prepare(first_chunk);
  }
  for (int index = first_chunk; part.begin < part.end && index < end_chunk; ++index) {
    wait_for_copies<0>();
    __syncthreads();  // the chunk and the state are there for all; nobody reads the other buffer any more
    if (index + 1 < end_chunk) load(index + 1);
    const Chunk<kState> chunk = Layout::chunk(shared, index % 2);
    const int first_row = part.row(index * kChunk);
    float sums[kChannels / 8][4] = {};
    compute_y(chunk, shared, warp * 16, lane, sums);
    store_y(problem, part, chunk, first_row, warp * 16, lane, sums, y, y_stride);
    update_state(chunk, first_column, lane, state);
    if (index + 1 < end_chunk) prepare(index + 1);
    __syncthreads();  // every warp has read the shared state
    share_state<kState>(state, shared, first_column, lane);
  }
  if (stored == nullptr) return;
  for_each_pair<kState>(state, first_column, lane, [&](const float* pair, int channel, int column) {
    if (channel >= part.num_channels) return;
    *reinterpret_cast<float2*>(stored + channel * kState + column) = make_float2(pair[0], pair[1]);
  });
}

template <int kState>
void launch(const ScanProblem& problem, const SsdScanArgs& args, cudaStream_t stream) {
  constexpr int kSharedBytes = SharedLayout<kState>::kBytes;
  const dim3 grid(static_cast<unsigned>(args.num_heads * ceil_div<int64_t>(args.head_dim, kChannels)),
                  static_cast<unsigned>(args.rows->num_sequences - args.rows->num_decode));
  dispatch_activation(args.y.dtype(), [&](auto out_tag) {
    using OutT = DeviceType<typename decltype(out_tag)::type>;
    CUDA_CHECK(cudaFuncSetAttribute(scan_chunks<kState, OutT>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    kSharedBytes));
    scan_chunks<kState, OutT><<<grid, kThreads, kSharedBytes, stream>>>(
        problem, static_cast<OutT*>(args.y.raw()), args.y.row_stride());
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace

bool ssd_scan_prefill(const SsdScanArgs& args, cudaStream_t stream) {
  const RaggedRows& rows = *args.rows;
  const bool applies = args.x.dtype() == DType::kBF16 && args.b.dtype() == DType::kBF16 &&
                       args.c.dtype() == DType::kBF16 && args.dt_raw.dtype() == DType::kBF16 &&
                       (args.state_size == 64 || args.state_size == 128) &&
                       args.head_dim % kPieceElements == 0 && args.chunk_size % kChunk == 0 &&
                       rows.num_sequences - rows.num_decode <= 65535;
  if (!applies) return false;
  if (rows.num_sequences == rows.num_decode) return true;
  const auto is_aligned = [](const ConstTensorView& view) {
    return reinterpret_cast<uintptr_t>(view.raw()) % 16 == 0 && view.row_stride() % kPieceElements == 0;
  };
  const auto view = [](const ConstTensorView& tensor) {
    return BfRows{static_cast<const Bf*>(tensor.raw()), tensor.row_stride()};
  };
  const ScanProblem problem{view(args.x),
                            view(args.b),
                            view(args.c),
                            view(args.dt_raw),
                            args.a_log.data<float>(),
                            args.d.data<float>(),
                            args.dt_bias.data<float>(),
                            rows.cu_seqlens.data<int32_t>(),
                            rows.context_lens.data<int32_t>(),
                            rows.state_slots ? rows.state_slots.data<int32_t>() : nullptr,
                            args.ssm_state ? args.ssm_state.data<float>() : nullptr,
                            static_cast<int>(args.num_heads),
                            static_cast<int>(args.head_dim),
                            static_cast<int>(args.num_heads / args.num_groups),
                            static_cast<int>(rows.num_decode),
                            is_aligned(args.x) && is_aligned(args.b) && is_aligned(args.c)};
  if (args.state_size == 64) {
    launch<64>(problem, args, stream);
  } else {
    launch<128>(problem, args, stream);
  }
  return true;
}

}  // namespace nemoforge::ops
