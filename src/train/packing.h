// Which documents go together into a pass, and passes into a step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "train/sft_document.h"
#include "train/train_batch.h"

namespace nemoforge::train {

struct PackingOptions {
  int64_t micro_batch_tokens = 4096;  // most tokens of one pass; a longer document is a pass of its own
  int64_t grad_accum = 1;             // passes of one step
  uint64_t seed = 0;                  // of the order of the documents
};

// The micro-batches of one step, by the documents' indices.
using StepPlan = std::vector<std::vector<int64_t>>;

// The steps of an epoch: every document once, in an order drawn by (seed, epoch). Nothing but the arguments
// decides, so a resumed run needs the number of its step alone. The last step may have fewer micro-batches.
[[nodiscard]] std::vector<StepPlan> plan_epoch(std::span<const SftDocument> documents, int64_t epoch,
                                               const PackingOptions& options);

// In the order of the documents; the same plan in any epoch. For evaluation.
[[nodiscard]] StepPlan plan_evaluation(std::span<const SftDocument> documents, int64_t micro_batch_tokens);

// The rows of these documents. A document's last token predicts nothing and has no row.
[[nodiscard]] TrainBatch make_train_batch(std::span<const SftDocument> documents,
                                          std::span<const int64_t> document_idx);

}  // namespace nemoforge::train
