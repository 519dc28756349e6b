#include <vector>

#include "ops/element_access.h"
#include "ops/reference_backend.h"

namespace nemoforge::ops {
namespace {

void add_row(const LoraAddArgs& args, const LoraWeight& weight, int64_t row) {
  const int64_t rank = weight.a.size(0);
  std::vector<double> low(static_cast<size_t>(rank));
  for (int64_t r = 0; r < rank; ++r) {
    for (int64_t k = 0; k < weight.a.size(1); ++k) {
      low[static_cast<size_t>(r)] += load_element(args.x, row, k) * load_element(weight.a, r, k);
    }
  }
  for (int64_t n = 0; n < weight.b.size(0); ++n) {
    double sum = 0;
    for (int64_t r = 0; r < rank; ++r) sum += low[static_cast<size_t>(r)] * load_element(weight.b, n, r);
    store_element(args.out, row, n, load_element(args.out, row, n) + static_cast<double>(weight.scale) * sum);
  }
}

}  // namespace

void ReferenceBackend::lora_add(const LoraAddArgs& args) {
  check(args);
  if (args.offsets) {
    const std::vector<LoraRun> runs = runs_at(args.offsets, args.runs);
    return lora_add({.x = args.x, .runs = runs, .out = args.out});
  }
  for (const LoraRun& run : args.runs) {
    for (int64_t row = run.begin; row < run.end; ++row) add_row(args, *run.weight, row);
  }
}

}  // namespace nemoforge::ops
