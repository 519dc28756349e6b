// A dataset of conversations on disk, as documents of tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "train/sft_document.h"

namespace nemoforge::train {

// What happens to a document that is longer than the context.
enum class LongDocuments { kFail, kSkip };

struct SftLimits {
  int64_t max_tokens = 0;  // of a document
  LongDocuments long_documents = LongDocuments::kFail;
};

struct SftDataset {
  std::vector<SftDocument> documents;
  std::vector<int64_t> lines;  // [documents.size()]: the line that a document comes from, from 1
  int64_t num_skipped = 0;     // documents that were too long
  std::string hash;            // SHA-256 of the file

  [[nodiscard]] int64_t num_tokens() const;
  [[nodiscard]] int64_t num_loss_tokens() const;
};

// Reads JSON Lines; blank lines are left out. kInvalidData, naming file and line, for a line that is not a
// conversation and for a document that is too long (kFail); kInvalidData where no document is left.
[[nodiscard]] Result<SftDataset> read_sft_dataset(const std::string& path, const SftFormat& format,
                                                  const SftLimits& limits);

// Moves the documents of a share of the lines into a dataset of their own, drawn by `seed` and the line's
// number alone; at least one document goes and one stays where there are two. `fraction` in (0, 1).
[[nodiscard]] SftDataset split_off_evaluation(SftDataset& dataset, double fraction, uint64_t seed);

}  // namespace nemoforge::train
