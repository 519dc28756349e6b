// Loops over a row of logits, vectorised for the machine that runs them.
#pragma once

#include <cstddef>
#include <span>

namespace nemoforge::sampling {

// Whether no element is NaN or infinite.
[[nodiscard]] bool all_finite(std::span<const float> logits);

// The index of the largest element, the lowest where several are. [n >= 1], no NaN; -inf is allowed.
[[nodiscard]] size_t argmax(std::span<const float> logits);

// sum_i exp(logits[i] - max), exp in fp32, sums in fp64.
[[nodiscard]] double exp_sum(std::span<const float> logits, float max);

// logits[i] = exp((logits[i] - max) * inverse_temperature), in place; max is finite and not less than any
// element, -inf becomes 0. The result is in [0, 1], and 1 for an element equal to max.
void to_weights(std::span<float> logits, float max, float inverse_temperature);

// The sum of the elements, in fp64.
[[nodiscard]] double sum(std::span<const float> weights);

}  // namespace nemoforge::sampling
