#include "train/sft_dataset.h"

#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "base/sha256.h"
#include "io/file.h"
#include "io/json.h"

namespace nemoforge::train {
namespace {

// The stream of random numbers that draws the evaluation split.
constexpr uint64_t kSplitStream = uint64_t{1} << 62;
constexpr int64_t kMaxFileBytes = int64_t{16} << 30;

tl::unexpected<Error> line_error(const std::string& path, int64_t line, const Error& cause) {
  return error(cause.code, path + ":" + std::to_string(line) + ": " + cause.message, cause.hint);
}

Status add_line(SftDataset& dataset, std::string_view text, int64_t line, const SftFormat& format,
                const SftLimits& limits) {
  NF_TRY(const io::Json row, io::parse_json(text));
  NF_TRY(std::vector<SftDocument> documents, make_sft_documents(row, format));
  for (SftDocument& document : documents) {
    const auto num_tokens = static_cast<int64_t>(document.token_ids.size());
    if (num_tokens > limits.max_tokens) {
      if (limits.long_documents == LongDocuments::kFail) {
        return error(ErrorCode::kInvalidData,
                     "the conversation has " + std::to_string(num_tokens) + " tokens, the limit is " +
                         std::to_string(limits.max_tokens),
                     "raise --max-tokens, or leave long documents out with --long-documents skip");
      }
      ++dataset.num_skipped;
      continue;
    }
    dataset.documents.push_back(std::move(document));
    dataset.lines.push_back(line);
  }
  return {};
}

// Moves documents[i] to the end of `to`.
void move_document(SftDataset& from, size_t i, SftDataset& to) {
  to.documents.push_back(std::move(from.documents[i]));
  to.lines.push_back(from.lines[i]);
}

}  // namespace

int64_t SftDataset::num_tokens() const {
  int64_t count = 0;
  for (const SftDocument& document : documents) count += static_cast<int64_t>(document.token_ids.size());
  return count;
}

int64_t SftDataset::num_loss_tokens() const {
  int64_t count = 0;
  for (const SftDocument& document : documents) count += document.num_loss_tokens();
  return count;
}

Result<SftDataset> read_sft_dataset(const std::string& path, const SftFormat& format,
                                    const SftLimits& limits) {
  NF_TRY(const std::string text, io::read_file(path, kMaxFileBytes));
  SftDataset dataset;
  dataset.hash = sha256_hex(text);
  int64_t line = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view row = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++line;
    if (row.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    if (auto added = add_line(dataset, row, line, format, limits); !added) {
      return line_error(path, line, added.error());
    }
  }
  if (dataset.documents.empty()) {
    const std::string why = dataset.num_skipped == 0 ? " holds no conversations"
                                                     : ": all " + std::to_string(dataset.num_skipped) +
                                                           " documents are longer than the limit of " +
                                                           std::to_string(limits.max_tokens) + " tokens";
    return error(ErrorCode::kInvalidData, path + why);
  }
  return dataset;
}

SftDataset split_off_evaluation(SftDataset& dataset, double fraction, uint64_t seed) {
  SftDataset training;
  SftDataset evaluation;
  const size_t num_documents = dataset.documents.size();
  for (size_t i = 0; i < num_documents; ++i) {
    const double drawn = Rng(seed, kSplitStream + static_cast<uint64_t>(dataset.lines[i])).uniform();
    const bool is_last = i + 1 == num_documents;
    const bool must_go = is_last && evaluation.documents.empty() && num_documents > 1;
    const bool must_stay = is_last && training.documents.empty();
    const bool goes = (drawn < fraction || must_go) && !must_stay;
    move_document(dataset, i, goes ? evaluation : training);
  }
  training.hash = evaluation.hash = dataset.hash;
  training.num_skipped = dataset.num_skipped;
  dataset = std::move(training);
  return evaluation;
}

}  // namespace nemoforge::train
