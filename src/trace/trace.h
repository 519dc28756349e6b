// Generating a run's traces: every problem a number of times, each answer stored as soon as it is there.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "base/result.h"
#include "store/run_store.h"
#include "trace/problem.h"
#include "trace/prompt.h"
#include "trace/trace_source.h"

namespace nemoforge::trace {

struct TraceConfig {
  int64_t num_samples = 1;  // answers to each problem
  uint64_t seed = 0;        // of the run: each trace's own seed follows from it, its problem and its sample
  SamplingSettings sampling;
  bool resume = false;  // whether the run may hold traces already

  // Attempts at each sample: while one fails (refine.h), its verdict goes back as the next user turn.
  int64_t num_attempts = 1;
  std::optional<double> target_speedup;  // a correct attempt slower than this is refined too
  // Gives verdicts to the run's traces that have none; called between attempts. Needed where num_attempts
  // > 1.
  std::function<Status()> verify;
};

struct TraceReport {
  int64_t num_wanted = 0;     // problems times samples, and the later attempts that were due
  int64_t num_earlier = 0;    // of them in the run before
  int64_t num_generated = 0;  // and now
  int64_t num_failed = 0;     // requests that were given up; the run has no trace of them
  int64_t num_with_code = 0;  // of the generated ones
  int64_t num_completion_tokens = 0;
  double duration_s = 0;
  bool interrupted = false;
  std::string first_failure;  // in words, where num_failed > 0
};

// The seed of one trace: a pure function of the run's seed, the problem, the sample and the attempt, below
// 2^53 so that any JSON parser keeps it.
[[nodiscard]] uint64_t trace_seed(uint64_t run_seed, std::string_view problem_id, int64_t sample_idx,
                                  int64_t attempt_idx = 0);

// The settings as they are stored with every trace, a JSON object.
[[nodiscard]] std::string sampling_json(const TraceConfig& config, const PromptTemplate& prompt);

// Adds the problems to the run and asks `source` for every answer that the run lacks, the first sample of all
// problems before the second of any; with several attempts, all samples' first ones, then config.verify, then
// the second ones of the samples that need them, and so on. Each is stored whole in one transaction when it
// comes, so that a killed process loses what was in flight and nothing else. kInvalidArgument where the run
// has traces and config.resume is not set, or where they were sampled in another way than `config` and
// `source` would.
[[nodiscard]] Result<TraceReport> generate_traces(store::RunStore& run, const std::vector<Problem>& problems,
                                                  const PromptTemplate& prompt, TraceSource& source,
                                                  const TraceConfig& config, const ProgressOutput& progress,
                                                  const std::function<bool()>& stopped);

}  // namespace nemoforge::trace
