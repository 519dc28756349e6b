// How quickly a model passes prompts, against the library's rate for the same matrix products.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "bench/timing.h"
#include "model/model.h"

namespace nemoforge::bench {

struct PrefillOptions {
  int64_t prompt_len = 512;
  int64_t chunk_size = 512;  // rows a pass
  int64_t repetitions = 3;
  uint64_t seed = 1;  // of the token ids
};

struct PrefillResult {
  Durations prompt;                // of a whole prompt, the logits of its last token included
  double tokens_per_s = 0;         // prompt_len / median
  double matmul_flops = 0;         // of the prompt's matrix products
  double matmul_tokens_per_s = 0;  // were the prompt those products alone, at matmul_seconds' rate
  double fraction = 0;             // tokens_per_s / matmul_tokens_per_s
};

// kInvalidArgument where chunk_size does not divide prompt_len (the products are those of whole chunks);
// kResourceExhausted where the caches do not fit.
[[nodiscard]] Result<PrefillResult> run_prefill(model::Model& model, const PrefillOptions& options);

}  // namespace nemoforge::bench
