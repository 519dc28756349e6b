#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include <nlohmann/json.hpp>

#include "dataset/candidate.h"
#include "dataset/write.h"
#include "io/json.h"

namespace nemoforge::dataset {
namespace {

using io::Json;

// A row's trace: run, problem, sample, attempt.
using RowKey = std::tuple<size_t, std::string, int64_t, int64_t>;

// Reads members of the manifest; the first that is missing or of another type is the error.
class Reader {
 public:
  explicit Reader(std::string path) : path_(std::move(path)) {}

  template <typename T>
  T get(const Json& object, const char* name, bool (Json::*is_type)() const noexcept) {
    const auto member = object.is_object() ? object.find(name) : object.end();
    if (member != object.end() && ((*member).*is_type)()) return member->get<T>();
    if (failure_)
      failure_ = error(ErrorCode::kInvalidData, path_ + ": not a manifest: no good \"" + name + "\"");
    return T();
  }
  std::string text(const Json& object, const char* name) {
    return get<std::string>(object, name, &Json::is_string);
  }
  int64_t integer(const Json& object, const char* name) {
    return get<int64_t>(object, name, &Json::is_number_integer);
  }
  Json list(const Json& object, const char* name) { return get<Json>(object, name, &Json::is_array); }
  Json object(const Json& object, const char* name) { return get<Json>(object, name, &Json::is_object); }
  [[nodiscard]] const Status& failure() const { return failure_; }

 private:
  std::string path_;
  Status failure_;
};

// What a manifest says about the rows.
struct Manifest {
  DatasetConfig config;  // what decides about the bytes of rows and their file
  std::vector<Candidate> rows;
  std::vector<std::string> hashes;  // of the files: train, validation
};

Result<Manifest> read_manifest(const std::string& path) {
  NF_TRY(const Json json, io::read_json_file(path));
  Reader read(path);
  Manifest manifest;
  if (read.integer(json, "format") != kManifestFormat && read.failure()) {
    return error(ErrorCode::kUnsupported,
                 path + ": is a manifest of another format than " + std::to_string(kManifestFormat),
                 "rebuild with the nemoforge that wrote it");
  }
  const Json settings = read.object(json, "settings");
  for (const Json& run : read.list(json, "runs")) manifest.config.run_dirs.push_back(read.text(run, "dir"));
  manifest.config.validation_fraction = read.get<double>(settings, "validation_fraction", &Json::is_number);
  manifest.config.split_seed = read.get<uint64_t>(settings, "split_seed", &Json::is_number_unsigned);
  const std::string format = read.text(settings, "format");
  manifest.config.format = format == "kernelbook" ? RowFormat::kKernelBook : RowFormat::kChat;
  for (const Json& file : read.list(json, "files")) manifest.hashes.push_back(read.text(file, "sha256"));
  for (const Json& row : read.list(json, "rows")) {
    Candidate candidate;
    const int64_t run_idx = read.integer(row, "run");
    if (run_idx < 0 || run_idx >= static_cast<int64_t>(manifest.config.run_dirs.size())) {
      return error(ErrorCode::kInvalidData, path + ": a row is of run " + std::to_string(run_idx) + " of " +
                                                std::to_string(manifest.config.run_dirs.size()));
    }
    candidate.run_idx = static_cast<size_t>(run_idx);
    candidate.problem_id = read.text(row, "problem_id");
    candidate.sample_idx = read.integer(row, "sample_idx");
    candidate.attempt_idx = read.integer(row, "attempt_idx");
    candidate.verdict = read.text(row, "verdict");
    candidate.num_tokens = read.integer(row, "num_tokens");
    const auto speedup = row.find("speedup");
    if (speedup != row.end() && speedup->is_number()) candidate.speedup = speedup->get<double>();
    manifest.rows.push_back(std::move(candidate));
  }
  NF_RETURN_IF_ERROR(read.failure());
  if (manifest.hashes.empty()) return error(ErrorCode::kInvalidData, path + ": the manifest names no file");
  return manifest;
}

// Finds the rows' traces in their runs, and the attempts before them.
Status find_traces(Collection& collection) {
  std::map<RowKey, Candidate*> wanted;
  for (Candidate& row : collection.candidates) {
    wanted[{row.run_idx, row.problem_id, row.sample_idx, row.attempt_idx}] = &row;
  }
  for (size_t run_idx = 0; run_idx < collection.runs.size(); ++run_idx) {
    AttemptChain chain;
    NF_RETURN_IF_ERROR(collection.runs[run_idx].for_each_trace([&](store::JudgedTrace&& judged) {
      const store::Trace& trace = judged.trace;
      std::vector<int64_t> earlier = chain.before(trace);
      const auto row = wanted.find({run_idx, trace.problem_id, trace.sample_idx, trace.attempt_idx});
      if (row == wanted.end()) return true;
      row->second->trace_id = trace.id;
      row->second->earlier_trace_ids = std::move(earlier);
      return true;
    }));
  }
  for (const Candidate& row : collection.candidates) {
    if (row.trace_id != 0) continue;
    return error(ErrorCode::kNotFound, "the run " + collection.run_facts[row.run_idx].dir +
                                           " has no trace of " + row.problem_id + ", sample " +
                                           std::to_string(row.sample_idx) + ", attempt " +
                                           std::to_string(row.attempt_idx));
  }
  return {};
}

}  // namespace

Result<DatasetReport> rebuild_dataset(const std::string& manifest_path, const std::string& out,
                                      const std::vector<std::string>& run_dirs) {
  NF_TRY(const DatasetPaths paths, DatasetPaths::beside(out));
  NF_TRY(Manifest manifest, read_manifest(manifest_path));
  if (!run_dirs.empty() && run_dirs.size() != manifest.config.run_dirs.size()) {
    return error(ErrorCode::kInvalidArgument,
                 "the dataset was made of " + std::to_string(manifest.config.run_dirs.size()) +
                     " runs, found " + std::to_string(run_dirs.size()),
                 "name all of them, in the manifest's order");
  }
  Collection collection;
  collection.candidates = std::move(manifest.rows);
  for (size_t i = 0; i < manifest.config.run_dirs.size(); ++i) {
    const std::string& name = manifest.config.run_dirs[i];
    NF_TRY(store::RunStore run,
           store::RunStore::open(run_dirs.empty() ? name : run_dirs[i], store::Access::kRead));
    collection.runs.push_back(std::move(run));
    collection.run_facts.push_back({.dir = name, .num_traces = 0, .sources = {}});
  }
  NF_RETURN_IF_ERROR(find_traces(collection));
  const auto check = [&](const WrittenData& data) -> Status {
    std::vector<std::string> hashes = {data.train.hash};
    if (data.validation.num_rows > 0) hashes.push_back(data.validation.hash);
    if (hashes == manifest.hashes) return {};
    return error(ErrorCode::kInvalidData,
                 "the rows are not those that " + manifest_path + " describes; nothing was written",
                 "the runs' traces or verdicts have changed since, or this nemoforge writes rows otherwise");
  };
  NF_TRY(const WrittenData data, write_rows(manifest.config, collection, paths, check));
  DatasetReport report;
  report.num_rows = static_cast<int64_t>(collection.candidates.size());
  report.num_traces = report.num_rows;
  report.num_validation_rows = data.validation.num_rows;
  std::set<std::string> problems;
  for (const Candidate& row : collection.candidates) {
    report.num_tokens += row.num_tokens;
    problems.insert(row.problem_id);
  }
  report.num_problems = static_cast<int64_t>(problems.size());
  report.files = {paths.train};
  if (data.validation.num_rows > 0) report.files.push_back(paths.validation);
  return report;
}

}  // namespace nemoforge::dataset
