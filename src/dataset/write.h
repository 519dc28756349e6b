// The files of a dataset.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "dataset/candidate.h"

namespace nemoforge::dataset {

// Names beside "dir/name.jsonl".
struct DatasetPaths {
  std::string train;       // dir/name.jsonl
  std::string validation;  // dir/name.validation.jsonl
  std::string manifest;    // dir/name.manifest.json
  std::string card;        // dir/name.README.md

  // kInvalidArgument where `out` does not end in .jsonl.
  [[nodiscard]] static Result<DatasetPaths> beside(const std::string& out);
};

struct DataFile {
  std::string name;  // without the folder
  int64_t num_rows = 0;
  int64_t num_bytes = 0;
  std::string hash;  // SHA-256
};

struct WrittenData {
  DataFile train;
  DataFile validation;  // no rows: there is no such file
};

// Whether a problem's rows go to the validation file: decided by the problem alone, so that it stays there
// whatever else the dataset holds.
[[nodiscard]] bool is_validation_problem(const DatasetConfig& config, const std::string& problem_id);

// Of the manifests that are written and read.
inline constexpr int64_t kManifestFormat = 2;

// One JSON line for every candidate of the collection, its texts read from the runs. The files appear only
// where `check`, if it is given, passes what they will be.
[[nodiscard]] Result<WrittenData> write_rows(const DatasetConfig& config, const Collection& collection,
                                             const DatasetPaths& paths,
                                             const std::function<Status(const WrittenData&)>& check = {});

// What a row says where a speedup or a time was not measured. Not null: Hugging Face's datasets takes a
// column's type from the first megabytes of a file, and a column that begins with nulls refuses numbers.
inline constexpr double kNotMeasured = 0;

// The candidate as a row of RowFormat::kKernelBook, without a line break. kernel_time_ms and
// reference_time_ms are the verdict record's kernel_ms and reference_ms.
[[nodiscard]] Result<std::string> kernelbook_row(const Candidate& candidate, const store::RunStore& run);
[[nodiscard]] Status write_manifest(const DatasetConfig& config, const Collection& collection,
                                    const WrittenData& data, const std::string& path);
[[nodiscard]] Status write_card(const DatasetConfig& config, const Collection& collection,
                                const WrittenData& data, const std::string& path);

}  // namespace nemoforge::dataset
