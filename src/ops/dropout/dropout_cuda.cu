// Four elements of a row, which share a block of random numbers, are a thread's.
#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dropout/dropout_cuda.h"
#include "ops/dtype_dispatch.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 128;

// philox4x32 of base/rng.h, on the device: the same bits.
__device__ uint4 philox4x32_block(uint4 counter, uint2 key) {
  constexpr uint32_t kMultiplier0 = 0xD2511F53;
  constexpr uint32_t kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9;
  constexpr uint32_t kWeyl1 = 0xBB67AE85;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(kMultiplier0, counter.x);
    const uint32_t high1 = __umulhi(kMultiplier1, counter.z);
    counter = make_uint4(high1 ^ counter.y ^ key.x, kMultiplier1 * counter.z, high0 ^ counter.w ^ key.y,
                         kMultiplier0 * counter.x);
    key = make_uint2(key.x + kWeyl0, key.y + kWeyl1);
  }
  return counter;
}

template <typename T, typename OutT>
__global__ void dropout_rows(const T* x, int64_t x_stride, int64_t num_features, DropoutMask mask,
                             uint32_t threshold, float scale, OutT* out, int64_t out_stride) {
  const int64_t row = blockIdx.x;
  const int64_t quad = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (4 * quad >= num_features) return;
  const uint4 block = philox4x32_block(
      make_uint4(static_cast<uint32_t>(quad), static_cast<uint32_t>(row), static_cast<uint32_t>(mask.stream),
                 static_cast<uint32_t>(mask.stream >> 32)),
      make_uint2(static_cast<uint32_t>(mask.seed), static_cast<uint32_t>(mask.seed >> 32)));
  const uint32_t draws[4] = {block.x, block.y, block.z, block.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t column = 4 * quad + i;
    if (column >= num_features || draws[i] < threshold) continue;
    OutT& element = out[row * out_stride + column];
    // The product is rounded before the sum, as on the CPU.
    element = from_float<OutT>(
        __fadd_rn(to_float(element), __fmul_rn(scale, to_float(x[row * x_stride + column]))));
  }
}

}  // namespace

void dropout_cuda(const DropoutArgs& args, CudaTrainingContext& context) {
  if (args.x.numel() == 0) return;
  const dim3 grid(static_cast<unsigned>(args.x.size(0)),
                  static_cast<unsigned>(ceil_div<int64_t>(args.x.size(1), 4 * kThreads)));
  const auto scale = static_cast<float>(1 / (1 - args.mask.probability));
  dispatch_activation(args.x.dtype(), [&](auto tag) {
    dispatch_activation(args.out.dtype(), [&](auto out_tag) {
      using T = DeviceType<typename decltype(tag)::type>;
      using OutT = DeviceType<typename decltype(out_tag)::type>;
      dropout_rows<<<grid, kThreads, 0, context.stream()>>>(
          static_cast<const T*>(args.x.raw()), args.x.row_stride(), args.x.size(1), args.mask,
          args.mask.threshold(), scale, static_cast<OutT*>(args.out.raw()), args.out.row_stride());
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
