// The products by cuBLASLt: in bf16 where x and the weight are of bf16, else in f32, for which what is not
// f32 is copied. Sums of a bf16 gradient are rounded once.
#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/linear/linear_backward_cuda.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 256;
constexpr int kBiasColumns = 32;
constexpr int kBiasRows = 8;  // that a block adds up side by side

template <typename InT, typename OutT>
__global__ void convert_rows(const InT* in, int64_t in_stride, int64_t num_columns, OutT* out) {
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= num_columns) return;
  out[blockIdx.x * num_columns + column] = from_float<OutT>(to_float(in[blockIdx.x * in_stride + column]));
}

template <typename OutT>
__global__ void add_rows(const float* in, int64_t num_columns, OutT* out, int64_t out_stride) {
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= num_columns) return;
  OutT& element = out[blockIdx.x * out_stride + column];
  element = from_float<OutT>(to_float(element) + in[blockIdx.x * num_columns + column]);
}

template <typename T>
__global__ void add_column_sums(const T* rows, int64_t stride, int64_t num_rows, int num_columns,
                                float* sums) {
  __shared__ float partial[kBiasRows][kBiasColumns];
  const int lane = static_cast<int>(threadIdx.x) % kBiasColumns;
  const int first_row = static_cast<int>(threadIdx.x) / kBiasColumns;
  const int column = static_cast<int>(blockIdx.x) * kBiasColumns + lane;
  float sum = 0;
  if (column < num_columns) {
    for (int64_t row = first_row; row < num_rows; row += kBiasRows)
      sum += to_float(rows[row * stride + column]);
  }
  partial[first_row][lane] = sum;
  __syncthreads();  // every part is written
  if (first_row != 0 || column >= num_columns) return;
  for (int i = 1; i < kBiasRows; ++i) sum += partial[i][lane];
  sums[column] += sum;
}

dim3 element_grid(int64_t num_rows, int64_t num_columns) {
  return dim3(static_cast<unsigned>(num_rows),
              static_cast<unsigned>(ceil_div<int64_t>(num_columns, kThreads)));
}

// The context's memory in pieces, each a multiple of 256 bytes.
class Pieces {
 public:
  static int64_t bytes_of(const ConstTensorView& view, DType dtype) {
    return round_up(view.numel() * dtype_bytes(dtype), int64_t{256});
  }
  explicit Pieces(void* memory) : next_(static_cast<std::byte*>(memory)) {}

  // `view` itself if it is of this dtype, or a contiguous copy that is.
  ConstTensorView as(const ConstTensorView& view, DType dtype, cudaStream_t stream) {
    if (view.dtype() == dtype || view.numel() == 0) return view;
    const TensorView copy(next_, dtype, Shape{view.size(0), view.size(1)});
    next_ += bytes_of(view, dtype);
    dispatch_weight(view.dtype(), [&](auto in_tag) {
      dispatch_activation(dtype, [&](auto out_tag) {
        using InT = DeviceType<typename decltype(in_tag)::type>;
        using OutT = DeviceType<typename decltype(out_tag)::type>;
        convert_rows<<<element_grid(view.size(0), view.size(1)), kThreads, 0, stream>>>(
            static_cast<const InT*>(view.raw()), view.row_stride(), view.size(1),
            static_cast<OutT*>(copy.raw()));
      });
    });
    CUDA_CHECK(cudaGetLastError());
    return copy;
  }
  TensorView take_f32(int64_t num_rows, int64_t num_columns) {
    const TensorView view(next_, DType::kF32, Shape{num_rows, num_columns});
    next_ += bytes_of(view, DType::kF32);
    return view;
  }

 private:
  std::byte* next_;
};

void add_product_to_d_x(const LinearBackwardArgs& args, const ConstTensorView& d_out,
                        const ConstTensorView& weight, Pieces& pieces, CudaTrainingContext& context) {
  if (args.d_x.dtype() == DType::kF32 || args.d_x.dtype() == weight.dtype()) {
    context.multiply({.a = d_out, .b = weight, .c = args.d_x});
    return;
  }
  const TensorView sums = pieces.take_f32(args.d_x.size(0), args.d_x.size(1));
  context.multiply({.a = d_out, .b = weight, .c = sums, .adds = false});
  dispatch_activation(args.d_x.dtype(), [&](auto tag) {
    using OutT = DeviceType<typename decltype(tag)::type>;
    add_rows<<<element_grid(sums.size(0), sums.size(1)), kThreads, 0, context.stream()>>>(
        sums.data<float>(), sums.size(1), static_cast<OutT*>(args.d_x.raw()), args.d_x.row_stride());
  });
  CUDA_CHECK(cudaGetLastError());
}

void add_d_bias(const LinearBackwardArgs& args, cudaStream_t stream) {
  const auto num_columns = static_cast<int>(args.d_out.size(1));
  dispatch_activation(args.d_out.dtype(), [&](auto tag) {
    using T = DeviceType<typename decltype(tag)::type>;
    add_column_sums<<<static_cast<unsigned>(ceil_div(num_columns, kBiasColumns)), kBiasColumns * kBiasRows, 0,
                      stream>>>(static_cast<const T*>(args.d_out.raw()), args.d_out.row_stride(),
                                args.d_out.size(0), num_columns, args.d_bias.data<float>());
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void linear_backward_cuda(const LinearBackwardArgs& args, CudaTrainingContext& context) {
  if (args.d_out.size(0) == 0) return;
  const ConstTensorView stored = args.weight->weight;
  const bool tensor_cores = args.x.dtype() == DType::kBF16 && stored.dtype() == DType::kBF16;
  const DType dtype = tensor_cores ? DType::kBF16 : DType::kF32;
  const auto copy_bytes = [&](const ConstTensorView& view) {
    return view.dtype() == dtype ? 0 : Pieces::bytes_of(view, dtype);
  };
  int64_t num_bytes = 0;
  if (args.d_x || args.d_weight) num_bytes += copy_bytes(args.d_out);
  if (args.d_x) num_bytes += copy_bytes(stored);
  if (args.d_weight) num_bytes += copy_bytes(args.x);
  const bool rounds_apart = args.d_x && args.d_x.dtype() != DType::kF32 && args.d_x.dtype() != dtype;
  if (rounds_apart) num_bytes += Pieces::bytes_of(args.d_x, DType::kF32);
  Pieces pieces(num_bytes > 0 ? context.memory(num_bytes) : nullptr);
  if (args.d_x || args.d_weight) {
    const ConstTensorView d_out = pieces.as(args.d_out, dtype, context.stream());
    if (args.d_x) {
      add_product_to_d_x(args, d_out, pieces.as(stored, dtype, context.stream()), pieces, context);
    }
    if (args.d_weight) {
      context.multiply({.a = d_out,
                        .a_transposed = true,
                        .b = pieces.as(args.x, dtype, context.stream()),
                        .c = args.d_weight});
    }
  }
  if (args.d_bias) add_d_bias(args, context.stream());
}

}  // namespace nemoforge::ops
