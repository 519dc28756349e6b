// What a pass of a model must read and compute at least, by its dimensions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/machine.h"
#include "model/config.h"
#include "model/weights.h"

namespace nemoforge::bench {

// The dimensions of Nemotron-3-Nano-30B-A3B with these layers ("MEMEM*..." is the whole; fewer fit a small
// machine).
[[nodiscard]] model::ModelConfig nemotron_nano_config(const std::string& pattern);

// Bytes of the weights that one decode step of `batch_size` sequences touches: all of them but the embeddings
// (one row a sequence) and the experts that no token chose, with tokens that choose independently and evenly.
[[nodiscard]] double active_weight_bytes(const model::ModelConfig& config, const model::ModelWeights& weights,
                                         int64_t batch_size);

// Bytes of state that a decode step reads and writes for one sequence: Mamba and convolution states both
// ways, keys and values of `context_len` tokens one way.
[[nodiscard]] double state_bytes(const model::ModelConfig& config, DType dtype, int64_t context_len);

// The matrix products of a prefill chunk of `num_rows` rows, experts evenly loaded, the head on one row.
[[nodiscard]] std::vector<MatrixProduct> prefill_products(const model::ModelConfig& config, int64_t num_rows);

}  // namespace nemoforge::bench
