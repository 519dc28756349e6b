// Conversations on disk as a checkpoint's own tokenizer and template read them.
#pragma once

#include <string>

#include "base/result.h"
#include "model/config.h"
#include "train/sft_dataset.h"

namespace nemoforge::cli {

// The documents of the JSON Lines file `path`. Errors are those of the tokenizer's and the template's files
// and of train::read_sft_dataset.
[[nodiscard]] Result<train::SftDataset> read_sft_data(const std::string& model,
                                                      const model::ModelConfig& config,
                                                      const std::string& path,
                                                      const train::SftLimits& limits);

}  // namespace nemoforge::cli
