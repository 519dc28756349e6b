#include "cli/agreement_summary.h"

#include <fmt/format.h>

#include "base/log.h"

namespace nemoforge::cli {

std::string agreement_summary(std::string_view what, const train::Agreement& agreement, double max_kl) {
  if (agreement.mean_kl > max_kl) {
    spdlog::warn(
        "{} disagree: mean KL {:.2g} nats per token, where rounding explains {:.2g} at most; measure what is "
        "served before you rely on it",
        what, agreement.mean_kl, max_kl);
  }
  return fmt::format("{}: mean KL {:.2g} nats, log-probabilities within {:.2g}, over {} tokens\n", what,
                     agreement.mean_kl, agreement.max_logprob_difference, agreement.num_tokens);
}

}  // namespace nemoforge::cli
