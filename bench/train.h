// How quickly a model trains, against the library's rate for the matrix products that a step must do.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "bench/timing.h"
#include "ops/backend.h"
#include "train/adamw.h"
#include "train/trainable_model.h"

namespace nemoforge::bench {

struct TrainOptions {
  int64_t sequence_len = 512;  // one document a pass, every token a target
  int64_t repetitions = 3;
  uint64_t seed = 1;  // of the token ids
  train::AdamWOptions adamw;
};

// Bytes of a device's memory, by what took them.
struct TrainMemory {
  int64_t weights = 0;
  int64_t trained = 0;  // values that train, and their gradients
  int64_t moments = 0;
  int64_t activations = 0;  // of the pass, and the ops' scratch memory
  int64_t total = 0;        // the most that was ever taken
};

struct TrainResult {
  Durations step;                  // of one document: losses, gradients, their norm, AdamW
  TrainMemory memory;              // zeros where the memory is the host's
  double tokens_per_s = 0;         // sequence_len / median
  double matmul_flops = 0;         // of the step's matrix products, those of the recomputed layers included
  double matmul_tokens_per_s = 0;  // were the step those products alone
  double fraction = 0;             // tokens_per_s / matmul_tokens_per_s
};

// A step multiplies by each weight three times (forward, the layer again, the gradient of its input), with
// `full` four times (the gradient of the weight); the head, which is not run again, once less. The adapters'
// own products, a few percent, are not counted.
// `free_before` and `free_with_weights`: bytes of the device's memory that were free before the weights were
// there, and with them.
[[nodiscard]] Result<TrainResult> run_train(train::TrainableModel& model, const TrainOptions& options,
                                            int64_t free_before, int64_t free_with_weights);

// 0 where the memory is the host's.
[[nodiscard]] int64_t free_device_bytes(const ops::Backend& backend);

}  // namespace nemoforge::bench
