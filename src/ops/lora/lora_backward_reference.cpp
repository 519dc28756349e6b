#include <vector>

#include "ops/element_access.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {
namespace {

void run_backward(const LoraBackwardArgs& args, const LoraBackwardRun& run) {
  const LoraWeight& weight = *run.weight;
  const int64_t rank = weight.a.size(0);
  for (int64_t r = 0; r < rank; ++r) {
    std::vector<double> d_a(static_cast<size_t>(args.x.size(1)));
    std::vector<double> d_b(static_cast<size_t>(args.d_out.size(1)));
    for (int64_t row = run.begin; row < run.end; ++row) {
      double low = 0;  // of x A^T
      double u = 0;    // of scale * d_out B
      for (int64_t k = 0; k < args.x.size(1); ++k) {
        low += load_element(args.x, row, k) * load_element(weight.a, r, k);
      }
      for (int64_t n = 0; n < args.d_out.size(1); ++n) {
        u += static_cast<double>(weight.scale) * load_element(args.d_out, row, n) *
             load_element(weight.b, n, r);
      }
      for (int64_t k = 0; k < args.x.size(1); ++k) {
        add_element(args.d_x, row, k, u * load_element(weight.a, r, k));
        d_a[static_cast<size_t>(k)] += u * load_element(args.x, row, k);
      }
      for (int64_t n = 0; n < args.d_out.size(1); ++n) {
        d_b[static_cast<size_t>(n)] +=
            static_cast<double>(weight.scale) * load_element(args.d_out, row, n) * low;
      }
    }
    for (int64_t k = 0; k < args.x.size(1); ++k) add_element(run.d_a, r, k, d_a[static_cast<size_t>(k)]);
    for (int64_t n = 0; n < args.d_out.size(1); ++n) add_element(run.d_b, n, r, d_b[static_cast<size_t>(n)]);
  }
}

}  // namespace

void ReferenceTrainingBackend::lora_backward(const LoraBackwardArgs& args) {
  check(args);
  if (args.offsets) {
    const std::vector<LoraBackwardRun> runs = runs_at(args.offsets, args.runs);
    return lora_backward({.x = args.x, .runs = runs, .d_out = args.d_out, .d_x = args.d_x});
  }
  for (const LoraBackwardRun& run : args.runs) run_backward(args, run);
}

}  // namespace nemoforge::ops
