// Row gather. One block a row, grid-stride over nothing: bytes moved = 2 x rows x hidden_size; launch-bound
// for decode.
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/embedding/embedding.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 256;

template <typename TableT, typename OutT>
__global__ void gather_rows(const int32_t* ids, const TableT* table, int64_t table_stride, int hidden_size,
                            OutT* out, int64_t out_stride) {
  await_previous_kernel();
  const TableT* source = table + static_cast<int64_t>(ids[blockIdx.x]) * table_stride;
  OutT* target = out + static_cast<int64_t>(blockIdx.x) * out_stride;
  for (int column = threadIdx.x; column < hidden_size; column += kThreads) {
    target[column] = from_float<OutT>(to_float(source[column]));
  }
}

}  // namespace

void CudaBackend::embedding(const EmbeddingArgs& args) {
  check(args);
  const auto num_rows = static_cast<unsigned>(args.ids.size(0));
  if (num_rows == 0) return;
  dispatch_weight(args.table.dtype(), [&](auto table_tag) {
    dispatch_activation(args.out.dtype(), [&](auto out_tag) {
      using TableT = DeviceType<typename decltype(table_tag)::type>;
      using OutT = DeviceType<typename decltype(out_tag)::type>;
      stream_.launch(gather_rows<TableT, OutT>, num_rows, kThreads, 0, args.ids.data<int32_t>(),
                     static_cast<const TableT*>(args.table.raw()), args.table.row_stride(),
                     static_cast<int>(args.table.size(1)), static_cast<OutT*>(args.out.raw()),
                     args.out.row_stride());
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
