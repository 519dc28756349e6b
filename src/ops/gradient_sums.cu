#include "base/integers.h"
#include "ops/gradient_sums.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 128;

__global__ void add_partials(const float* partials, int64_t num_partials, int64_t stride, int64_t count,
                             float* out) {
  await_previous_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  float sum = 0;
#pragma unroll 8
  for (int64_t p = 0; p < num_partials; ++p) sum += partials[p * stride + i];
  out[i] += sum;
}

}  // namespace

void add_partial_sums(const float* partials, int64_t num_partials, int64_t stride, int64_t count, float* out,
                      OpStream& stream) {
  stream.launch(add_partials, dim3(static_cast<unsigned>(ceil_div<int64_t>(count, kThreads))), kThreads, 0,
                partials, num_partials, stride, count, out);
}

}  // namespace nemoforge::ops
