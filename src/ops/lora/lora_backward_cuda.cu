// Low-rank products of all runs together (lora_rows_cuda.h): x A^T and u = d_out B, both scaled, then the
// three gradients.
#include <algorithm>

#include "base/integers.h"
#include "ops/lora/lora_backward_cuda.h"
#include "ops/lora/lora_rows_cuda.h"

namespace nemoforge::ops {
namespace {

// The tables of the forward pass with the gradients.
std::vector<LoraTable> backward_tables(const LoraBackwardArgs& args) {
  std::vector<LoraRun> runs;
  for (const LoraBackwardRun& run : args.runs) runs.push_back({run.begin, run.end, run.weight});
  std::vector<LoraTable> tables = lora_tables(runs, args.offsets, args.x.size(0));
  for (size_t i = 0; i < args.runs.size(); ++i) {
    LoraTableRun& run = tables[i / kMaxLoraTableRuns].runs[i % kMaxLoraTableRuns];
    run.d_a = args.runs[i].d_a.data<float>();
    run.d_b = args.runs[i].d_b.data<float>();
  }
  return tables;
}

}  // namespace

void lora_backward_cuda(const LoraBackwardArgs& args, CudaTrainingContext& context) {
  const int64_t num_rows = args.x.size(0);
  const std::vector<LoraTable> tables = backward_tables(args);
  if (num_rows == 0 || tables.empty()) return;
  int64_t max_rank = 0;
  int64_t gradient_bytes = 0;
  for (const LoraTable& table : tables) {
    max_rank = std::max<int64_t>(max_rank, table.max_rank);
    gradient_bytes = std::max({gradient_bytes, lora_gradient_bytes(table, args.x.size(1)),
                               lora_gradient_bytes(table, args.d_out.size(1))});
  }
  const int64_t low_stride = lora_low_stride(max_rank);
  auto* low = static_cast<float*>(context.memory(2 * num_rows * low_stride * 4 + gradient_bytes));
  float* u = low + num_rows * low_stride;
  float* partial = u + num_rows * low_stride;
  const cudaStream_t stream = context.stream();
  for (const LoraTable& table : tables) {
    lora_shrink(table, LoraFactor::kA, args.x, low, low_stride, stream);
    lora_shrink(table, LoraFactor::kB, args.d_out, u, low_stride, stream);
    lora_expand(table, LoraFactor::kA, u, low_stride, args.x.dtype(), args.d_x, stream);
    lora_gradient(table, LoraFactor::kA, u, low_stride, args.x, partial, stream);
    lora_gradient(table, LoraFactor::kB, low, low_stride, args.d_out, partial, stream);
  }
}

}  // namespace nemoforge::ops
