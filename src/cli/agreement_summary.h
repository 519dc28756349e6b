// What finetune and merge say about how well trained and served probabilities agree.
#pragma once

#include <string>
#include <string_view>

#include "train/agreement.h"

namespace nemoforge::cli {

// Largest mean KL, nats per token, that is no cause for a warning: of fp32 computations of the same weights,
// which differ by the order of their sums alone, and of weights that were rounded to bf16, which can also
// send a token to other experts. Measured: docs/measurements.md, "Trained and served".
constexpr double kMaxKlOfSameWeights = 1e-5;
constexpr double kMaxKlOfRoundedWeights = 1e-2;

// One line, such as "trained and served: mean KL 7.7e-14 nats, log-probabilities within 1.4e-06, over 60
// tokens", where `what` is "trained and served". Logs a warning where the KL is above the bound.
[[nodiscard]] std::string agreement_summary(std::string_view what, const train::Agreement& agreement,
                                            double max_kl);

}  // namespace nemoforge::cli
