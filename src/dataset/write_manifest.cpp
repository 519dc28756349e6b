#include <nlohmann/json.hpp>

#include "dataset/write.h"
#include "io/file.h"
#include "io/json.h"

namespace nemoforge::dataset {
namespace {

using io::Json;

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json settings_json(const DatasetConfig& config) {
  Json held_out = Json::array();
  for (const HeldOutProblem& problem : config.held_out) held_out.push_back(problem.id);
  return {{"runs", config.run_dirs},
          {"format", config.format == RowFormat::kKernelBook ? "kernelbook" : "chat"},
          {"licence", config.licence},
          {"source_licences", config.source_licences},
          {"accepted_verdicts", config.accepted_verdicts},
          {"accepted_finish_reasons", config.accepted_finish_reasons},
          {"min_speedup", or_null(config.min_speedup)},
          {"min_reasoning_tokens", config.min_reasoning_tokens},
          {"max_reasoning_tokens", or_null(config.max_reasoning_tokens)},
          {"max_non_latin_share", config.max_non_latin_share},
          {"max_tokens", or_null(config.max_tokens)},
          {"tokens_counted_by_model", config.count_tokens != nullptr},
          {"near_duplicate_similarity", config.near_duplicate_similarity},
          {"best_of", or_null(config.best_of)},
          {"validation_fraction", config.validation_fraction},
          {"split_seed", config.split_seed},
          {"contamination_similarity", config.contamination_similarity},
          {"held_out", std::move(held_out)}};
}

Json runs_json(const Collection& collection) {
  Json runs = Json::array();
  for (const RunFacts& facts : collection.run_facts) {
    Json sources = Json::array();
    for (const auto& [source, num_traces] : facts.sources) {
      const auto sampling = io::parse_json(source[4]);
      sources.push_back({{"model", source[0]},
                         {"adapter", source[1]},
                         {"checkpoint_hash", source[2]},
                         {"template_hash", source[3]},
                         {"sampling", sampling ? *sampling : Json(source[4])},
                         {"num_traces", num_traces}});
    }
    runs.push_back({{"dir", facts.dir}, {"num_traces", facts.num_traces}, {"sources", std::move(sources)}});
  }
  return runs;
}

Json problems_json(const Collection& collection) {
  Json problems = Json::array();
  for (const auto& [id, facts] : collection.problems) {
    problems.push_back({{"id", id},
                        {"origin", facts.origin},
                        {"source_sha256", facts.source_hash},
                        {"structure_sha256", facts.structure_hash},
                        {"held_out", facts.is_held_out},
                        {"contaminated", facts.is_contaminated},
                        {"num_rows", facts.num_rows}});
  }
  return problems;
}

Json file_json(const DataFile& file) {
  return {
      {"name", file.name}, {"num_rows", file.num_rows}, {"num_bytes", file.num_bytes}, {"sha256", file.hash}};
}

}  // namespace

Status write_manifest(const DatasetConfig& config, const Collection& collection, const WrittenData& data,
                      const std::string& path) {
  Json dropped = Json::object();
  for (const auto& [reason, count] : collection.num_dropped) dropped[drop_reason_text(reason)] = count;
  Json rows = Json::array();
  for (const Candidate& candidate : collection.candidates) {
    rows.push_back({{"run", candidate.run_idx},
                    {"problem_id", candidate.problem_id},
                    {"sample_idx", candidate.sample_idx},
                    {"attempt_idx", candidate.attempt_idx},
                    {"verdict", candidate.verdict},
                    {"speedup", or_null(candidate.speedup)},
                    {"num_tokens", candidate.num_tokens}});
  }
  Json files = Json::array({file_json(data.train)});
  if (data.validation.num_rows > 0) files.push_back(file_json(data.validation));
  const Json manifest = {{"format", kManifestFormat},
                         {"nemoforge_version", config.nemoforge_version},
                         {"settings", settings_json(config)},
                         {"files", std::move(files)},
                         {"num_traces", collection.num_traces},
                         {"num_dropped", std::move(dropped)},
                         {"runs", runs_json(collection)},
                         {"problems", problems_json(collection)},
                         {"rows", std::move(rows)}};
  return io::write_file_atomically(path, manifest.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace nemoforge::dataset
