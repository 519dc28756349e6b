#include "base/check.h"
#include "ops/element_access.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {
namespace {

int64_t sorted_row(const ConstTensorView& row_of, int64_t token, int64_t k, int64_t num_sorted) {
  const int64_t row = row_of.data<int32_t>()[token * row_of.size(1) + k];
  NF_CHECK(row >= 0 && row < num_sorted) << row << " of " << num_sorted;
  return row;
}

}  // namespace

void ReferenceTrainingBackend::moe_dispatch_backward(const MoeDispatchBackwardArgs& args) {
  check(args);
  for (int64_t token = 0; token < args.d_x.size(0); ++token) {
    for (int64_t i = 0; i < args.d_x.size(1); ++i) {
      double sum = 0;
      for (int64_t k = 0; k < args.row_of.size(1); ++k) {
        sum +=
            load_element(args.d_dispatched, sorted_row(args.row_of, token, k, args.d_dispatched.size(0)), i);
      }
      add_element(args.d_x, token, i, sum);
    }
  }
}

void ReferenceTrainingBackend::moe_combine_backward(const MoeCombineBackwardArgs& args) {
  check(args);
  for (int64_t token = 0; token < args.d_out.size(0); ++token) {
    for (int64_t k = 0; k < args.row_of.size(1); ++k) {
      const int64_t row = sorted_row(args.row_of, token, k, args.expert_out.size(0));
      double sum = 0;
      for (int64_t i = 0; i < args.d_out.size(1); ++i) {
        const double d_out = load_element(args.d_out, token, i);
        add_element(args.d_expert_out, row, i, load_element(args.expert_weights, token, k) * d_out);
        sum += d_out * load_element(args.expert_out, row, i);
      }
      add_element(args.d_expert_weights, token, k, sum);
    }
  }
}

}  // namespace nemoforge::ops
