#include "train/packing.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/integers.h"
#include "base/rng.h"

namespace nemoforge::train {
namespace {

int64_t num_rows_of(const SftDocument& document) {
  return static_cast<int64_t>(document.token_ids.size()) - 1;
}

// Fills one micro-batch after the other. Rows are ragged, so a micro-batch that is not full costs no padding.
std::vector<std::vector<int64_t>> pack(std::span<const SftDocument> documents, std::span<const int64_t> order,
                                       int64_t micro_batch_tokens) {
  std::vector<std::vector<int64_t>> micro_batches;
  int64_t room = 0;
  for (const int64_t idx : order) {
    const int64_t rows = num_rows_of(documents[static_cast<size_t>(idx)]);
    if (micro_batches.empty() || rows > room) {
      micro_batches.emplace_back();
      room = micro_batch_tokens;
    }
    micro_batches.back().push_back(idx);
    room -= rows;
  }
  return micro_batches;
}

std::vector<int64_t> in_order(size_t count) {
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), int64_t{0});
  return order;
}

}  // namespace

std::vector<StepPlan> plan_epoch(std::span<const SftDocument> documents, int64_t epoch,
                                 const PackingOptions& options) {
  std::vector<int64_t> order = in_order(documents.size());
  // Fisher-Yates.
  Rng rng(options.seed, static_cast<uint64_t>(epoch));
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
  std::vector<std::vector<int64_t>> micro_batches = pack(documents, order, options.micro_batch_tokens);
  std::vector<StepPlan> steps;
  for (std::vector<int64_t>& micro_batch : micro_batches) {
    if (steps.empty() || static_cast<int64_t>(steps.back().size()) == options.grad_accum) {
      steps.emplace_back();
    }
    steps.back().push_back(std::move(micro_batch));
  }
  return steps;
}

StepPlan plan_evaluation(std::span<const SftDocument> documents, int64_t micro_batch_tokens) {
  return pack(documents, in_order(documents.size()), micro_batch_tokens);
}

TrainBatch make_train_batch(std::span<const SftDocument> documents, std::span<const int64_t> document_idx) {
  TrainBatch batch;
  batch.cu_seqlens.push_back(0);
  for (const int64_t idx : document_idx) {
    const SftDocument& document = documents[static_cast<size_t>(idx)];
    for (size_t i = 0; i + 1 < document.token_ids.size(); ++i) {
      batch.token_ids.push_back(document.token_ids[i]);
      batch.targets.push_back(document.has_loss[i + 1] ? document.token_ids[i + 1] : -1);
    }
    batch.cu_seqlens.push_back(narrow<int32_t>(batch.token_ids.size()));
  }
  return batch;
}

}  // namespace nemoforge::train
