#include <algorithm>
#include <vector>

#include "ops/cpu_training_backend.h"
#include "ops/linear/gradient_products.h"
#include "ops/linear/row_products.h"
#include "tensor/buffer.h"

namespace nemoforge::ops {

// Three batches of products, all runs in each: x A^T, scaled; u = d_out B, scaled; then the three gradients.
void CpuTrainingBackend::lora_backward(const LoraBackwardArgs& args) {
  check(args);
  if (args.offsets) {
    const std::vector<LoraBackwardRun> runs = runs_at(args.offsets, args.runs);
    return lora_backward({.x = args.x, .runs = runs, .d_out = args.d_out, .d_x = args.d_x});
  }
  int64_t max_rank = 0;
  for (const LoraBackwardRun& run : args.runs) max_rank = std::max(max_rank, run.weight->a.size(0));
  const Shape low_shape{args.d_out.size(0), max_rank};
  if (low_shape.numel() == 0) return;
  Tensor low_tensor = make_host_tensor(DType::kF32, low_shape);
  Tensor u_tensor = make_host_tensor(DType::kF32, low_shape);
  std::fill_n(u_tensor.view().data<float>(), low_shape.numel(), 0.0f);
  const auto scale_rows = [](const TensorView& rows, float scale) {
    for (int64_t row = 0; row < rows.size(0); ++row) {
      float* values = rows.data<float>() + row * rows.row_stride();
      for (int64_t r = 0; r < rows.size(1); ++r) values[r] *= scale;
    }
  };

  std::vector<RowProduct> down;
  std::vector<GradientProduct> up;
  std::vector<GradientProduct> gradients;
  for (const LoraBackwardRun& run : args.runs) {
    const int64_t count = run.end - run.begin;
    if (count == 0) continue;
    const TensorView low = low_tensor.view().rows(run.begin, count).columns(0, run.weight->a.size(0));
    const TensorView u = u_tensor.view().rows(run.begin, count).columns(0, run.weight->a.size(0));
    const ConstTensorView x = args.x.rows(run.begin, count);
    const ConstTensorView d_out = args.d_out.rows(run.begin, count);
    down.push_back({.x = x, .weight = run.weight->a, .bias = {}, .out = low});
    up.push_back(product_of(d_out, run.weight->b, u));
    gradients.push_back(product_of(u, run.weight->a, args.d_x.rows(run.begin, count)));
    gradients.push_back(transposed_product_of(u, x, run.d_a));
    gradients.push_back(transposed_product_of(d_out, low, run.d_b));
  }
  run_row_products(pool_, down);
  run_gradient_products(pool_, up);
  for (const LoraBackwardRun& run : args.runs) {
    const int64_t rank = run.weight->a.size(0);
    scale_rows(low_tensor.view().rows(run.begin, run.end - run.begin).columns(0, rank), run.weight->scale);
    scale_rows(u_tensor.view().rows(run.begin, run.end - run.begin).columns(0, rank), run.weight->scale);
  }
  run_gradient_products(pool_, gradients);
}

}  // namespace nemoforge::ops
