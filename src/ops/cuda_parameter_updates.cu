// All parameters in one launch: a block has a chunk of one of them, which it finds in a table on the device.
// AdamW moves 28 bytes an element with moments of f32 and 17 with codes; nothing else counts.
#include <algorithm>
#include <vector>

#include "base/integers.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/parameter_updates.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = kMomentBlock;  // a thread an element of a block of codes
constexpr int kChunk = 16384;           // elements; whole blocks
static_assert(kChunk % kMomentBlock == 0);

struct Segment {
  float* value;
  const float* grad;
  __nv_bfloat16* copy;
  void* m;
  void* v;
  float* m_scale;  // null: moments of f32
  float* v_scale;
  int64_t num_elements;
  bool weight_decay;
};

struct Chunk {
  int segment;
  int64_t begin;
};

struct Codes {
  float with_sign[256];
  float without_sign[256];
};

__device__ void update_element(const AdamWFactors& f, float decay, float grad, float& p, float& m, float& v) {
  const float g = grad * f.grad_scale;
  m = f.beta1 * m + (1.0f - f.beta1) * g;
  v = f.beta2 * v + (1.0f - f.beta2) * g * g;
  p = decay * p - f.step_size * m / (sqrtf(v) * f.inverse_sqrt2 + f.epsilon);
}

// The largest of the block's values, none of which is negative.
__device__ float block_max(float value, float* scratch) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
  __syncthreads();  // the previous use of scratch is over
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();  // every warp's maximum is written
  for (int warp = 0; warp < kThreads / 32; ++warp) value = fmaxf(value, scratch[warp]);
  return value;
}

// The code nearest to value: the first whose midpoint to the next is above it.
__device__ uint8_t nearest_code(const float* codes, float value) {
  int first = 0;
  int last = 255;
  while (first < last) {
    const int middle = (first + last) / 2;
    if (0.5f * (codes[middle] + codes[middle + 1]) > value) {
      last = middle;
    } else {
      first = middle + 1;
    }
  }
  return static_cast<uint8_t>(first);
}

// Codes of one block's values; `zero` is the code of 0.
__device__ uint8_t encode(const float* codes, bool has_sign, int zero, float value, float* scale,
                          float* scratch) {
  const float absmax = block_max(fabsf(value), scratch);
  if (threadIdx.x == 0) *scale = absmax;
  if (absmax == 0) return static_cast<uint8_t>(zero);
  const uint8_t code = nearest_code(codes, value / absmax);
  const bool vanishes = !has_sign && code == zero && value > 0;
  return vanishes ? static_cast<uint8_t>(zero + 1) : code;
}

__device__ void update_codes(const AdamWFactors& f, const Segment& segment, float decay, const Codes& codes,
                             int zero_with_sign, int64_t begin, int64_t end, float* scratch) {
  auto* m_codes = static_cast<uint8_t*>(segment.m);
  auto* v_codes = static_cast<uint8_t*>(segment.v);
  for (int64_t first = begin; first < end; first += kMomentBlock) {
    const int64_t i = first + threadIdx.x;
    const int64_t block = first / kMomentBlock;
    const bool inside = i < end;
    float m = inside ? segment.m_scale[block] * codes.with_sign[m_codes[i]] : 0.0f;
    float v = inside ? segment.v_scale[block] * codes.without_sign[v_codes[i]] : 0.0f;
    if (inside) {
      float p = segment.value[i];
      update_element(f, decay, segment.grad[i], p, m, v);
      segment.value[i] = p;
      if (segment.copy != nullptr) segment.copy[i] = __float2bfloat16_rn(p);
    }
    __syncthreads();  // the scales have been read
    const uint8_t m_code = encode(codes.with_sign, true, zero_with_sign, m, segment.m_scale + block, scratch);
    const uint8_t v_code = encode(codes.without_sign, false, 0, v, segment.v_scale + block, scratch);
    if (inside) {
      m_codes[i] = m_code;
      v_codes[i] = v_code;
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    adamw_chunks(const Segment* segments, const Chunk* chunks, const Codes* codes_in_memory,
                 int zero_with_sign, AdamWFactors f) {
  __shared__ Codes codes;
  __shared__ float scratch[kThreads / 32];
  const Chunk chunk = chunks[blockIdx.x];
  const Segment segment = segments[chunk.segment];
  const float decay = segment.weight_decay ? f.decay : 1.0f;
  const int64_t end = min(chunk.begin + kChunk, segment.num_elements);
  if (segment.m_scale != nullptr) {
    codes.with_sign[threadIdx.x] = codes_in_memory->with_sign[threadIdx.x];
    codes.without_sign[threadIdx.x] = codes_in_memory->without_sign[threadIdx.x];
    __syncthreads();  // the codes are there
    update_codes(f, segment, decay, codes, zero_with_sign, chunk.begin, end, scratch);
    return;
  }
  auto* m = static_cast<float*>(segment.m);
  auto* v = static_cast<float*>(segment.v);
#pragma unroll 4
  for (int64_t i = chunk.begin + threadIdx.x; i < end; i += kThreads) {
    float p = segment.value[i];
    update_element(f, decay, segment.grad[i], p, m[i], v[i]);
    segment.value[i] = p;
    if (segment.copy != nullptr) segment.copy[i] = __float2bfloat16_rn(p);
  }
}

__global__ void __launch_bounds__(kThreads) copy_chunks(const Segment* segments, const Chunk* chunks) {
  const Chunk chunk = chunks[blockIdx.x];
  const Segment segment = segments[chunk.segment];
  if (segment.copy == nullptr) return;
  const int64_t end = min(chunk.begin + kChunk, segment.num_elements);
  for (int64_t i = chunk.begin + threadIdx.x; i < end; i += kThreads) {
    segment.copy[i] = __float2bfloat16_rn(segment.value[i]);
  }
}

__device__ double block_sum_f64(double value) {
  __shared__ double scratch[kThreads / 32];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();  // every warp's sum is written
  double sum = 0;
  for (int warp = 0; warp < kThreads / 32; ++warp) sum += scratch[warp];
  return sum;
}

__global__ void __launch_bounds__(kThreads)
    square_sums(const Segment* segments, const Chunk* chunks, double* sums) {
  const Chunk chunk = chunks[blockIdx.x];
  const Segment segment = segments[chunk.segment];
  const int64_t end = min(chunk.begin + kChunk, segment.num_elements);
  double sum = 0;
#pragma unroll 4
  for (int64_t i = chunk.begin + threadIdx.x; i < end; i += kThreads) {
    const auto value = static_cast<double>(segment.grad[i]);
    sum += value * value;
  }
  sum = block_sum_f64(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// One block: the sum goes behind the parts.
__global__ void __launch_bounds__(kThreads) add_sums(double* sums, int count) {
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) sum += sums[i];
  sum = block_sum_f64(sum);
  if (threadIdx.x == 0) sums[count] = sum;
}

class CudaParameterUpdates final : public ParameterUpdates {
 public:
  CudaParameterUpdates(CudaBackend& backend, Buffer segments, Buffer chunks, Buffer codes, Buffer sums,
                       int num_chunks, int zero_with_sign)
      : backend_(backend),
        segments_(std::move(segments)),
        chunks_(std::move(chunks)),
        codes_(std::move(codes)),
        sums_(std::move(sums)),
        num_chunks_(num_chunks),
        zero_with_sign_(zero_with_sign) {}

  double gradient_square_sum() override {
    auto* sums = static_cast<double*>(sums_.data());
    square_sums<<<grid(), kThreads, 0, backend_.stream()>>>(segments(), chunks(), sums);
    CUDA_CHECK(cudaGetLastError());
    add_sums<<<1, kThreads, 0, backend_.stream()>>>(sums, num_chunks_);
    CUDA_CHECK(cudaGetLastError());
    double sum = 0;
    backend_.download(sums + num_chunks_, &sum, sizeof(sum));
    return sum;
  }
  void adamw(const AdamWFactors& factors) override {
    adamw_chunks<<<grid(), kThreads, 0, backend_.stream()>>>(
        segments(), chunks(), static_cast<const Codes*>(codes_.data()), zero_with_sign_, factors);
    CUDA_CHECK(cudaGetLastError());
  }
  void write_copies() override {
    copy_chunks<<<grid(), kThreads, 0, backend_.stream()>>>(segments(), chunks());
    CUDA_CHECK(cudaGetLastError());
  }

 private:
  [[nodiscard]] unsigned grid() const { return static_cast<unsigned>(num_chunks_); }
  [[nodiscard]] const Segment* segments() const { return static_cast<const Segment*>(segments_.data()); }
  [[nodiscard]] const Chunk* chunks() const { return static_cast<const Chunk*>(chunks_.data()); }

  CudaBackend& backend_;
  Buffer segments_;
  Buffer chunks_;
  Buffer codes_;
  Buffer sums_;
  int num_chunks_;
  int zero_with_sign_;
};

template <typename T>
Result<Buffer> uploaded(Backend& backend, const std::vector<T>& values) {
  const auto num_bytes = static_cast<int64_t>(values.size() * sizeof(T));
  NF_TRY(Buffer buffer, backend.allocate(num_bytes));
  backend.upload(values.data(), buffer.data(), num_bytes);
  return buffer;
}

}  // namespace

Result<std::unique_ptr<ParameterUpdates>> make_cuda_parameter_updates(
    Backend& backend, std::span<const ParameterSegment> segments, const MomentCodes& codes) {
  auto* cuda = dynamic_cast<CudaBackend*>(&backend);
  NF_CHECK(cuda != nullptr && !segments.empty()) << backend.name();
  std::vector<Segment> table;
  std::vector<Chunk> chunks;
  for (const ParameterSegment& segment : segments) {
    table.push_back({.value = segment.value.data<float>(),
                     .grad = segment.grad.data<float>(),
                     .copy = static_cast<__nv_bfloat16*>(segment.copy.raw()),
                     .m = segment.m.raw(),
                     .v = segment.v.raw(),
                     .m_scale = segment.m_scale ? segment.m_scale.data<float>() : nullptr,
                     .v_scale = segment.v_scale ? segment.v_scale.data<float>() : nullptr,
                     .num_elements = segment.value.numel(),
                     .weight_decay = segment.weight_decay});
    for (int64_t begin = 0; begin < segment.value.numel(); begin += kChunk) {
      chunks.push_back({static_cast<int>(table.size()) - 1, begin});
    }
  }
  std::vector<Codes> code_table(1);
  std::copy(codes.with_sign.begin(), codes.with_sign.end(), code_table[0].with_sign);
  std::copy(codes.without_sign.begin(), codes.without_sign.end(), code_table[0].without_sign);
  const auto zero = std::find(codes.with_sign.begin(), codes.with_sign.end(), 0.0f) - codes.with_sign.begin();
  NF_TRY(Buffer segment_buffer, uploaded(backend, table));
  NF_TRY(Buffer chunk_buffer, uploaded(backend, chunks));
  NF_TRY(Buffer code_buffer, uploaded(backend, code_table));
  NF_TRY(Buffer sums, backend.allocate(static_cast<int64_t>((chunks.size() + 1) * sizeof(double))));
  return std::make_unique<CudaParameterUpdates>(
      *cuda, std::move(segment_buffer), std::move(chunk_buffer), std::move(code_buffer), std::move(sums),
      narrow<int32_t>(static_cast<int64_t>(chunks.size())), static_cast<int>(zero));
}

}  // namespace nemoforge::ops
