// How quickly a model trains, against the library's rate for the matrix products that a step must do.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "bench/timing.h"
#include "train/trainable_model.h"

namespace nemoforge::bench {

struct TrainOptions {
  int64_t sequence_len = 512;  // one document a pass, every token a target
  int64_t repetitions = 3;
  uint64_t seed = 1;  // of the token ids
};

struct TrainResult {
  Durations pass;                  // losses and gradients of one document; no optimizer
  double tokens_per_s = 0;         // sequence_len / median
  double matmul_flops = 0;         // of the pass's matrix products, those of the recomputed layers included
  double matmul_tokens_per_s = 0;  // were the pass those products alone
  double fraction = 0;             // tokens_per_s / matmul_tokens_per_s
};

// A pass multiplies by each weight three times (forward, the layer again, the gradient of its input), with
// `full` four times (the gradient of the weight); the head, which is not run again, once less. The adapters'
// own products, a few percent, are not counted.
[[nodiscard]] Result<TrainResult> run_train(train::TrainableModel& model, const TrainOptions& options);

}  // namespace nemoforge::bench
