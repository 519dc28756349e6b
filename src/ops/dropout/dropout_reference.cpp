#include "ops/dropout/dropout.h"
#include "ops/element_access.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {

void ReferenceTrainingBackend::dropout(const DropoutArgs& args) {
  check(args);
  for (int64_t row = 0; row < args.x.size(0); ++row) {
    for (int64_t i = 0; i < args.x.size(1); ++i) {
      const uint32_t draw = args.mask.draws(row, i / 4)[static_cast<size_t>(i % 4)];
      if (draw < args.mask.threshold()) continue;
      add_element(args.out, row, i, load_element(args.x, row, i) / (1 - args.mask.probability));
    }
  }
}

}  // namespace nemoforge::ops
