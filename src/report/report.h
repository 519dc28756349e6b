// What a run's verdicts come to: pass@k, fast_p, verdicts, speedups and tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "report/statistics.h"
#include "store/run_store.h"

namespace nemoforge::report {

// KernelBench's place of a problem, read from an id such as "level1_19_ReLU"; 0 where the id has none.
struct ProblemPlace {
  int64_t level = 0;
  int64_t number = 0;
};
[[nodiscard]] ProblemPlace place_of(const std::string& problem_id);

// Whether a verdict says something about the candidate: not so where nothing could be verified, where the
// device cannot run the problem, or where the problem itself tells nothing.
[[nodiscard]] bool is_about_candidate(const std::string& verdict);

// Some of a run's problems together. A sample is the chain of its attempts: correct where one of them is, as
// fast as the fastest correct one. Samples without a verdict count nowhere.
struct Group {
  std::string name;  // "all", "level 1", "held out", ...
  int64_t num_problems = 0;
  int64_t num_samples = 0;  // with a verdict
  int64_t num_correct = 0;  // of them
  int64_t num_timed = 0;    // of the correct ones, with a known speedup
  int64_t num_solved = 0;   // problems with a correct sample
  // k to pass@k, over the problems with k samples and more.
  std::vector<std::pair<int64_t, Estimate>> pass_at_k;
  // p to fast_p: the share of a problem's samples that are correct with a speedup above p, averaged over the
  // problems. fast_0 is correctness alone; the others are absent where no speedup is known.
  std::vector<std::pair<double, std::optional<Estimate>>> fast_p;
};

// How far attempts after a failed one got.
struct AttemptCounts {
  int64_t num_traces = 0;           // of this attempt, with a verdict
  int64_t num_correct = 0;          // of them
  int64_t num_samples_correct = 0;  // by this attempt or an earlier one
};

struct RunReport {
  std::string dir;
  std::vector<std::string> models;  // with their adapters
  std::vector<std::string> devices;
  int64_t num_problems = 0;
  int64_t num_traces = 0;
  int64_t num_verified = 0;
  int64_t num_with_code = 0;
  std::vector<Group> groups;  // all; then levels; then the sides of the split, where there is one
  std::vector<AttemptCounts> attempts;
  std::vector<std::pair<std::string, int64_t>> verdicts;  // most frequent first
  std::vector<std::string> excluded_problems;             // every verdict of theirs is about something else
  std::vector<double> speedups;                           // of the correct samples, ascending
  std::vector<double> completion_tokens;                  // of all traces, ascending
  std::vector<double> correct_completion_tokens;          // of the correct ones, ascending
  // Completion tokens of all verified traces for each correct sample; absent without one.
  std::optional<double> tokens_per_correct_sample;
};

// ks: the k of pass@k; empty: powers of two up to the most samples of a problem.
[[nodiscard]] Result<RunReport> report_run(const store::RunStore& run, const std::string& dir,
                                           const std::vector<int64_t>& ks);

// Text for a terminal, one JSON object, and a page that needs nothing but itself.
[[nodiscard]] std::string to_table(const std::vector<RunReport>& reports);
[[nodiscard]] std::string to_json(const std::vector<RunReport>& reports);
[[nodiscard]] std::string to_html(const std::vector<RunReport>& reports);

}  // namespace nemoforge::report
