#include "report/kernelbench.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json.h"
#include "report/report.h"

namespace nemoforge::report {
namespace {

using io::Json;

// What is kept of a sample: the attempt that represents it.
struct Sample {
  int64_t trace_id = 0;
  std::optional<store::Verdict> verdict;  // about the candidate
};

// The samples of a level, by problem number and sample index.
struct Level {
  std::map<int64_t, std::map<int64_t, Sample>> problems;
  std::map<int64_t, std::string> ids;
};

bool represents_better(const std::optional<store::Verdict>& now,
                       const std::optional<store::Verdict>& before) {
  if (!before || !now) return now.has_value() || !before;
  if (now->correct != before->correct) return now->correct;
  return !now->correct || now->speedup.value_or(0) > before->speedup.value_or(0);
}

Result<std::map<int64_t, Level>> levels_of(const store::RunStore& run) {
  std::map<int64_t, Level> levels;
  Status failure;
  NF_RETURN_IF_ERROR(run.for_each_trace([&](store::JudgedTrace&& judged) {
    const store::Trace& trace = judged.trace;
    const ProblemPlace place = place_of(trace.problem_id);
    if (place.level == 0 || place.number == 0) return true;
    Level& level = levels[place.level];
    const auto [id, is_new] = level.ids.emplace(place.number, trace.problem_id);
    if (!is_new && id->second != trace.problem_id) {
      failure =
          error(ErrorCode::kInvalidData, "the run has two problems of level " + std::to_string(place.level) +
                                             " with the number " + std::to_string(place.number) + ": " +
                                             id->second + " and " + trace.problem_id);
      return false;
    }
    if (judged.verdict && !is_about_candidate(judged.verdict->verdict)) judged.verdict.reset();
    auto& samples = level.problems[place.number];
    const auto entry = samples.find(trace.sample_idx);
    if (entry == samples.end() || represents_better(judged.verdict, entry->second.verdict)) {
      samples[trace.sample_idx] = {trace.id, std::move(judged.verdict)};
    }
    return true;
  }));
  NF_RETURN_IF_ERROR(failure);
  return levels;
}

// Whether the candidate got as far as KernelBench's "compiled": it was loaded.
bool is_compiled(const std::string& verdict) {
  return verdict != "no_code" && verdict != "import_blocked" && verdict != "compile_error";
}

Json result_json(int64_t sample_idx, const store::Verdict& verdict) {
  const auto record = io::parse_json(verdict.record_json);
  const auto member = [&record](const char* name) {
    return record && record->is_object() ? record->value(name, Json(nullptr)) : Json(nullptr);
  };
  Json metadata = {{"hardware", verdict.device}, {"nemoforge_verdict", verdict.verdict}};
  if (!verdict.correct) metadata["nemoforge_detail"] = member("detail");
  if (verdict.speedup) metadata["nemoforge_speedup"] = *verdict.speedup;
  const Json kernel_ms = member("kernel_ms");
  return {{"sample_id", sample_idx},
          {"compiled", is_compiled(verdict.verdict)},
          {"correctness", verdict.correct},
          {"metadata", std::move(metadata)},
          {"runtime", kernel_ms.is_number() ? kernel_ms : Json(-1.0)},
          {"runtime_stats", Json::object()}};
}

std::optional<double> reference_ms(const Sample& sample) {
  if (!sample.verdict) return std::nullopt;
  const auto record = io::parse_json(sample.verdict->record_json);
  const Json time =
      record && record->is_object() ? record->value("reference_ms", Json(nullptr)) : Json(nullptr);
  return time.is_number() ? std::optional<double>(time.get<double>()) : std::nullopt;
}

// The level's entries of a baseline file: the reference's time beside the first sample that has one, which is
// the sample that the analysis compares. A problem that nobody solved counts in the averages whatever its
// reference takes: null where that was not measured.
Json baseline_json(const Level& level) {
  Json entries = Json::object();
  for (const auto& [number, samples] : level.problems) {
    std::optional<double> mean;
    bool has_verdict = false;
    bool is_solved = false;
    for (const auto& [sample_idx, sample] : samples) {
      if (!mean) mean = reference_ms(sample);
      has_verdict = has_verdict || sample.verdict;
      is_solved = is_solved || (sample.verdict && sample.verdict->correct);
    }
    if (!has_verdict || (!mean && is_solved)) continue;
    const std::string& id = level.ids.at(number);
    entries[id.substr(id.find('_') + 1) + ".py"] = {{"mean", mean ? Json(*mean) : Json(nullptr)}};
  }
  return entries;
}

bool has_number(const Json& baseline_entries) {
  return std::any_of(baseline_entries.begin(), baseline_entries.end(),
                     [](const Json& entry) { return entry["mean"].is_number(); });
}

Result<KernelBenchFolder> write_level(const store::RunStore& run, int64_t level_number, const Level& level,
                                      const std::string& out_dir) {
  KernelBenchFolder folder{(std::filesystem::path(out_dir) / fmt::format("level{}", level_number)).string(),
                           level_number, 0, 0};
  std::error_code failed;
  std::filesystem::create_directories(folder.dir, failed);
  if (failed) return error(ErrorCode::kIo, folder.dir + ": cannot be made: " + failed.message());
  Json results = Json::object();
  for (const auto& [number, samples] : level.problems) {
    ++folder.num_problems;
    Json list = Json::array();
    for (const auto& [sample_idx, sample] : samples) {
      NF_TRY(const std::optional<store::Trace> trace, run.trace(sample.trace_id));
      if (!trace) return error(ErrorCode::kInvalidData, "a trace of " + level.ids.at(number) + " is gone");
      NF_RETURN_IF_ERROR(io::write_file_atomically(fmt::format("{}/level_{}_problem_{}_sample_{}_kernel.py",
                                                               folder.dir, level_number, number, sample_idx),
                                                   trace->code));
      ++folder.num_samples;
      if (sample.verdict) list.push_back(result_json(sample_idx, *sample.verdict));
    }
    // KernelBench takes a number that is missing for a failure of its problem.
    if (!list.empty()) results[std::to_string(number)] = std::move(list);
  }
  NF_RETURN_IF_ERROR(io::write_file_atomically(
      folder.dir + "/eval_results.json", results.dump(4, ' ', false, Json::error_handler_t::replace) + "\n"));
  return folder;
}

}  // namespace

Result<std::vector<KernelBenchFolder>> write_kernelbench(const store::RunStore& run,
                                                         const std::string& out_dir) {
  NF_TRY(const auto levels, levels_of(run));
  if (levels.empty()) {
    return error(ErrorCode::kNotFound,
                 "the run has no traces of KernelBench problems (ids such as level1_19_ReLU)",
                 "trace a KernelBench checkout: --problems KernelBench");
  }
  std::vector<KernelBenchFolder> folders;
  Json baseline = Json::object();
  for (const auto& [number, level] : levels) {
    NF_TRY(KernelBenchFolder folder, write_level(run, number, level, out_dir));
    folders.push_back(std::move(folder));
    Json entries = baseline_json(level);
    if (has_number(entries)) baseline[fmt::format("level{}", number)] = std::move(entries);
  }
  const std::string baseline_path = (std::filesystem::path(out_dir) / "baseline.json").string();
  if (!baseline.empty()) {
    NF_RETURN_IF_ERROR(io::write_file_atomically(baseline_path, baseline.dump(4) + "\n"));
  } else {
    // One of an earlier run in this folder would be taken for this one's.
    std::error_code ignored;
    std::filesystem::remove(baseline_path, ignored);
  }
  return folders;
}

}  // namespace nemoforge::report
