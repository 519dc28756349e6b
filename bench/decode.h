// How quickly a model decodes, against the bytes it must read.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "bench/timing.h"
#include "model/model.h"

namespace nemoforge::bench {

struct DecodeOptions {
  int64_t batch_size = 1;
  int64_t context_len = 64;  // tokens of each sequence before the measurement
  int64_t num_steps = 50;
  uint64_t seed = 1;  // of the token ids
};

struct DecodeResult {
  Durations step;
  double tokens_per_s = 0;        // batch_size / median step
  double weight_bytes = 0;        // that a step must read (active_weight_bytes)
  double state_bytes = 0;         // that a step must read and write
  double read_gb_per_s = 0;       // of this machine, measured
  double floor_tokens_per_s = 0;  // were those bytes moved at that rate
  double fraction = 0;            // tokens_per_s / floor_tokens_per_s
};

// Passes random tokens (so that the experts vary as in use); kResourceExhausted where the caches do not fit.
[[nodiscard]] Result<DecodeResult> run_decode(model::Model& model, const DecodeOptions& options);

}  // namespace nemoforge::bench
