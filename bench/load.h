// How quickly a checkpoint is ready, against reading its files once; and its peak memory.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "model/config.h"
#include "ops/backend.h"
#include "tensor/dtype.h"

namespace nemoforge::bench {

// Writes config.json's companion, model.safetensors, with random weights of `dtype` under the hub's names to
// an existing folder; tensor by tensor, without holding the model in memory.
[[nodiscard]] Status write_random_checkpoint(const std::string& folder, const model::ModelConfig& config,
                                             DType dtype, uint64_t seed);

struct LoadResult {
  double file_bytes = 0;
  double read_s = 0;             // reading the files once, before
  double load_s = 0;             // mapping and checking
  double first_token_s = 0;      // load_s, and the logits after a one-token prompt
  double peak_memory_bytes = 0;  // of the process's resident memory (VmHWM), all of it
};

// The folder's config must be `config`. The page cache is as the reading leaves it.
[[nodiscard]] Result<LoadResult> run_load(const std::string& folder, const model::ModelConfig& config,
                                          DType dtype, ops::Backend& backend);

}  // namespace nemoforge::bench
