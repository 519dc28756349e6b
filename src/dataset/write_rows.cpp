#include <filesystem>
#include <optional>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/sha256.h"
#include "dataset/write.h"
#include "io/file.h"
#include "io/json.h"

namespace nemoforge::dataset {
namespace {

// A JSON Lines file in the making, its hash and size kept along.
class RowFile {
 public:
  static Result<RowFile> create(const std::string& path) {
    NF_TRY(io::AtomicFile file, io::AtomicFile::create(path));
    return RowFile(std::move(file), std::filesystem::path(path).filename().string());
  }
  Status add(const std::string& line) {
    hash_->update(line);
    ++data_.num_rows;
    data_.num_bytes += static_cast<int64_t>(line.size());
    return file_.write(line);
  }
  // What the file is once nothing more is added.
  DataFile finish() {
    data_.hash = hash_->hex_digest();
    return data_;
  }
  Status commit() { return file_.commit(); }

 private:
  RowFile(io::AtomicFile file, std::string name) : file_(std::move(file)), hash_(std::make_unique<Sha256>()) {
    data_.name = std::move(name);
  }
  io::AtomicFile file_;
  std::unique_ptr<Sha256> hash_;
  DataFile data_;
};

Result<std::string> row_json(const Candidate& candidate, const Collection& collection, RowFormat format) {
  const store::RunStore& run = collection.runs[candidate.run_idx];
  if (format == RowFormat::kKernelBook) {
    NF_TRY(const std::string row, kernelbook_row(candidate, run));
    return row + "\n";
  }
  NF_TRY(const std::optional<store::Trace> trace, run.trace(candidate.trace_id));
  NF_CHECK(trace.has_value()) << candidate.trace_id;
  NF_TRY(const std::string messages, conversation_json(*trace));
  NF_TRY(io::Json messages_json, io::parse_json(messages));
  const io::Json row = {{"messages", std::move(messages_json)},
                        {"problem_id", candidate.problem_id},
                        {"run", collection.run_facts[candidate.run_idx].dir},
                        {"sample_idx", candidate.sample_idx},
                        {"attempt_idx", candidate.attempt_idx},
                        {"verdict", candidate.verdict},
                        {"speedup", candidate.speedup.value_or(kNotMeasured)},
                        {"num_tokens", candidate.num_tokens}};
  return io::dump_json(row) + "\n";
}

}  // namespace

Result<DatasetPaths> DatasetPaths::beside(const std::string& out) {
  const std::filesystem::path path(out);
  if (path.extension() != ".jsonl" || path.stem().empty()) {
    return error(ErrorCode::kInvalidArgument, "the dataset's file " + out + " does not end in .jsonl");
  }
  const std::string base = (path.parent_path() / path.stem()).string();
  return DatasetPaths{out, base + ".validation.jsonl", base + ".manifest.json", base + ".README.md"};
}

bool is_validation_problem(const DatasetConfig& config, const std::string& problem_id) {
  const std::string hash = sha256_hex(std::to_string(config.split_seed) + "/" + problem_id);
  const auto drawn = static_cast<double>(std::stoull(hash.substr(0, 12), nullptr, 16));
  return drawn < config.validation_fraction * static_cast<double>(uint64_t{1} << 48);
}

Result<WrittenData> write_rows(const DatasetConfig& config, const Collection& collection,
                               const DatasetPaths& paths,
                               const std::function<Status(const WrittenData&)>& check) {
  NF_TRY(RowFile train, RowFile::create(paths.train));
  NF_TRY(RowFile validation, RowFile::create(paths.validation));
  bool has_validation = false;
  for (const Candidate& candidate : collection.candidates) {
    NF_TRY(const std::string line, row_json(candidate, collection, config.format));
    const bool is_validation = is_validation_problem(config, candidate.problem_id);
    has_validation = has_validation || is_validation;
    NF_RETURN_IF_ERROR((is_validation ? validation : train).add(line));
  }
  WrittenData data;
  data.train = train.finish();
  if (has_validation) data.validation = validation.finish();
  if (check) NF_RETURN_IF_ERROR(check(data));
  if (has_validation) {
    NF_RETURN_IF_ERROR(validation.commit());
  } else {
    // One of an earlier dataset of this name would be mixed up with this one.
    std::error_code ignored;
    std::filesystem::remove(paths.validation, ignored);
  }
  NF_RETURN_IF_ERROR(train.commit());
  return data;
}

}  // namespace nemoforge::dataset
