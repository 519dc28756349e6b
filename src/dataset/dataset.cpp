#include "dataset/dataset.h"

#include <array>

#include "dataset/candidate.h"
#include "dataset/write.h"

namespace nemoforge::dataset {
namespace {

// "3 not verified, 2 verification failed".
std::string describe_drops(const std::map<DropReason, int64_t>& num_dropped) {
  std::string text;
  for (const auto& [reason, count] : num_dropped) {
    text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + drop_reason_text(reason);
  }
  return text;
}

}  // namespace

const char* drop_reason_text(DropReason reason) {
  constexpr std::array<const char*, kNumDropReasons> kTexts = {
      "not verified",     "verification failed",
      "problem held out", "problem like a held-out one",
      "finish reason",    "speedup",
      "reasoning length", "language",
      "token budget",     "exact duplicate",
      "near duplicate",   "beyond the best of its problem"};
  return kTexts[static_cast<size_t>(reason)];
}

Result<DatasetReport> build_dataset(const DatasetConfig& config) {
  NF_TRY(const DatasetPaths paths, DatasetPaths::beside(config.out));
  NF_TRY(Collection collection, collect(config));
  select(config, collection);
  if (collection.candidates.empty()) {
    if (collection.num_traces == 0) {
      return error(ErrorCode::kNotFound, "the runs hold no traces", "nemoforge trace makes them");
    }
    return error(ErrorCode::kNotFound,
                 "none of " + std::to_string(collection.num_traces) +
                     " traces can be used: " + describe_drops(collection.num_dropped),
                 collection.num_dropped.contains(DropReason::kNotVerified)
                     ? "nemoforge verify --run DIR checks them"
                     : "");
  }
  NF_TRY(const WrittenData data, write_rows(config, collection, paths));
  NF_RETURN_IF_ERROR(write_card(config, collection, data, paths.card));
  NF_RETURN_IF_ERROR(write_manifest(config, collection, data, paths.manifest));

  DatasetReport report;
  report.num_traces = collection.num_traces;
  report.num_dropped = collection.num_dropped;
  report.num_rows = static_cast<int64_t>(collection.candidates.size());
  report.num_validation_rows = data.validation.num_rows;
  for (const Candidate& candidate : collection.candidates) report.num_tokens += candidate.num_tokens;
  for (const auto& [id, facts] : collection.problems) report.num_problems += facts.num_rows > 0 ? 1 : 0;
  report.files = {paths.train, paths.manifest, paths.card};
  if (data.validation.num_rows > 0) report.files.push_back(paths.validation);
  return report;
}

}  // namespace nemoforge::dataset
