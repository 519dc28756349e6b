#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "ops/element_access.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {

void ReferenceTrainingBackend::cross_entropy(const CrossEntropyArgs& args) {
  check(args);
  const int64_t vocab_size = args.logits.size(1);
  for (int64_t row = 0; row < args.logits.size(0); ++row) {
    const int64_t target = args.targets.data<int32_t>()[row];
    NF_CHECK(target >= 0 && target < vocab_size) << target << " of " << vocab_size;
    double largest = load_element(args.logits, row, 0);
    for (int64_t j = 1; j < vocab_size; ++j) largest = std::max(largest, load_element(args.logits, row, j));
    double sum = 0;
    for (int64_t j = 0; j < vocab_size; ++j) sum += std::exp(load_element(args.logits, row, j) - largest);
    store_element(args.losses, row, 0, std::log(sum) + largest - load_element(args.logits, row, target));
    for (int64_t j = 0; args.d_logits && j < vocab_size; ++j) {
      const double p = std::exp(load_element(args.logits, row, j) - largest) / sum;
      store_element(args.d_logits, row, j, static_cast<double>(args.scale) * (p - (j == target ? 1 : 0)));
    }
  }
}

}  // namespace nemoforge::ops
