// sample() for a backend that chooses tokens where its logits are (ops/token_choice).
#pragma once

#include "base/result.h"
#include "ops/token_choice/token_choice.h"
#include "sampling/sampler.h"

namespace nemoforge::sampling {

// What the backend is to do for sample(input), whose logits are not read. `mask` is memory for the row's
// mask, and like input.token_mask must outlive the choice.
[[nodiscard]] ops::TokenChoiceRow to_choice_row(const SampleInput& input, int64_t vocab_size,
                                                std::vector<uint32_t>& mask);

// What sample() would return; the status is not kUndecided.
[[nodiscard]] Result<SampledToken> from_choice(const ops::ChosenToken& chosen);

}  // namespace nemoforge::sampling
