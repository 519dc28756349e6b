#include "base/check.h"
#include "ops/element_access.h"
#include "ops/reference_backend.h"

namespace nemoforge::ops {

void ReferenceBackend::moe_dispatch(const MoeDispatchArgs& args) {
  check(args);
  const int64_t num_tokens = args.x.size(0);
  const int64_t top_k = args.expert_ids.size(1);
  int32_t row = 0;
  for (int64_t expert = 0; expert < args.num_experts; ++expert) {
    args.offsets.data<int32_t>()[expert] = row;
    for (int64_t token = 0; token < num_tokens; ++token) {
      for (int64_t k = 0; k < top_k; ++k) {
        const int64_t id = args.expert_ids.data<int32_t>()[token * top_k + k];
        NF_CHECK(id >= 0 && id < args.num_experts) << id << " of " << args.num_experts;
        if (id != expert) continue;
        args.row_tokens.data<int32_t>()[row] = static_cast<int32_t>(token);
        args.row_of.data<int32_t>()[token * top_k + k] = row;
        for (int64_t column = 0; column < args.x.size(1); ++column) {
          store_element(args.out, row, column, load_element(args.x, token, column));
        }
        ++row;
      }
    }
  }
  args.offsets.data<int32_t>()[args.num_experts] = row;
}

void ReferenceBackend::moe_combine(const MoeCombineArgs& args) {
  check(args);
  const int64_t top_k = args.row_of.size(1);
  for (int64_t token = 0; token < args.out.size(0); ++token) {
    for (int64_t column = 0; column < args.out.size(1); ++column) {
      double sum = 0;
      for (int64_t k = 0; k < top_k; ++k) {
        const int64_t row = args.row_of.data<int32_t>()[token * top_k + k];
        NF_CHECK(row >= 0 && row < args.expert_out.size(0)) << row << " of " << args.expert_out.size(0);
        sum += load_element(args.expert_weights, token, k) * load_element(args.expert_out, row, column);
      }
      if (args.shared) sum += load_element(args.shared, token, column);
      store_element(args.out, token, column, sum);
    }
  }
}

}  // namespace nemoforge::ops
