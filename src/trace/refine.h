// Refinement: what happens to a sample whose attempt failed, and the message that says so to the model.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "store/run_store.h"

namespace nemoforge::trace {

// Whether another attempt is worth its tokens: the candidate failed, or it is correct and its measured
// speedup lies below `target_speedup`. Not where the verdict says nothing about the candidate (nothing was
// verified, the problem needs another device or tells nothing).
[[nodiscard]] bool needs_refinement(const store::Verdict& verdict, std::optional<double> target_speedup);

// The user's next message after an attempt that needs refinement: the verdict, its detail (at most 2000 code
// points, fenced, control characters and what a chat template would take for its own marks made harmless, as
// it may be text that the candidate wrote) and what to do.
[[nodiscard]] std::string feedback_message(const store::Verdict& verdict,
                                           std::optional<double> target_speedup);

// The chat after `failed`: its messages, its answer and the feedback, a JSON array. kInvalidData where the
// stored messages are no list.
[[nodiscard]] Result<std::string> refinement_messages(const store::Trace& failed,
                                                      const store::Verdict& verdict,
                                                      std::optional<double> target_speedup);

}  // namespace nemoforge::trace
