#include <cmath>

#include "base/check.h"
#include "ops/element_access.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {

void ReferenceTrainingBackend::router_backward(const RouterBackwardArgs& args) {
  check(args);
  const int64_t top_k = args.expert_ids.size(1);
  for (int64_t token = 0; token < args.logits.size(0); ++token) {
    const auto id = [&](int64_t k) { return static_cast<int64_t>(load_element(args.expert_ids, token, k)); };
    const auto score = [&](int64_t k) {
      return 1 / (1 + std::exp(-load_element(args.logits, token, id(k))));
    };
    double sum = 1e-20;
    double products = 0;
    for (int64_t k = 0; k < top_k; ++k) {
      NF_CHECK(id(k) >= 0 && id(k) < args.logits.size(1)) << id(k) << " of " << args.logits.size(1);
      sum += score(k);
      products += load_element(args.d_expert_weights, token, k) * score(k);
    }
    for (int64_t k = 0; k < top_k; ++k) {
      const double d_weight = load_element(args.d_expert_weights, token, k);
      const double d_score = args.normalize ? d_weight / sum - products / (sum * sum) : d_weight;
      add_element(args.d_logits, token, id(k),
                  static_cast<double>(args.scale) * d_score * score(k) * (1 - score(k)));
    }
  }
}

}  // namespace nemoforge::ops
