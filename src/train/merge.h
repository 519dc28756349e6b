// An adapter folded into the weights that it adapts.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace nemoforge::train {

// Writes the checkpoint `model` with W + scale * B A in the place of every adapted W, summed in f32 and
// rounded once to W's element type, to the folder `out` (write_checkpoint). Returns the number of matrices
// changed.
[[nodiscard]] Result<int64_t> merge_adapter(const std::string& model, const std::string& lora,
                                            const std::string& out);

}  // namespace nemoforge::train
