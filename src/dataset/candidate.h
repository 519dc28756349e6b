// The traces that may become rows, without their texts: a run may be larger than memory.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "dataset/dataset.h"
#include "dataset/min_hash.h"
#include "store/run_store.h"

namespace nemoforge::dataset {

struct Candidate {
  size_t run_idx = 0;
  int64_t trace_id = 0;
  std::string problem_id;
  int64_t sample_idx = 0;
  int64_t attempt_idx = 0;
  std::vector<int64_t> earlier_trace_ids;  // of the sample's attempts before this one
  std::string verdict;
  std::optional<double> speedup;
  int64_t num_tokens = 0;  // of the conversation
  int64_t num_completion_tokens = 0;
  std::string content_hash;  // of code tokens and reasoning words: equal for exact duplicates
  MinHash code;
  MinHash reasoning;
};

// Follows the traces of a run, which come in order of problem, sample and attempt.
class AttemptChain {
 public:
  // Ids of the attempts that came before `trace` in its sample.
  [[nodiscard]] std::vector<int64_t> before(const store::Trace& trace) {
    if (trace.problem_id != problem_id_ || trace.sample_idx != sample_idx_) ids_.clear();
    problem_id_ = trace.problem_id;
    sample_idx_ = trace.sample_idx;
    std::vector<int64_t> earlier = ids_;
    ids_.push_back(trace.id);
    return earlier;
  }

 private:
  std::string problem_id_;
  int64_t sample_idx_ = 0;
  std::vector<int64_t> ids_;
};

// What is known of a problem over all runs.
struct ProblemFacts {
  std::string source_hash;
  std::string structure_hash;
  MinHash structure = {};
  std::string origin;
  bool is_held_out = false;
  bool is_contaminated = false;  // of the structure of a held-out problem, or nearly
  int64_t num_rows = 0;
};

// Where the traces of a run came from.
struct RunFacts {
  std::string dir;
  int64_t num_traces = 0;
  // (model, adapter, checkpoint hash, template hash, sampling) with their numbers of traces.
  std::map<std::array<std::string, 5>, int64_t> sources;
};

struct Collection {
  std::vector<store::RunStore> runs;
  std::vector<RunFacts> run_facts;
  std::map<std::string, ProblemFacts> problems;  // by id
  std::vector<Candidate> candidates;             // in order of run, problem, sample, attempt
  int64_t num_traces = 0;
  std::map<DropReason, int64_t> num_dropped;
};

// Reads every run once and keeps what the config's filters let through. kInvalidData where two runs have
// different problems under one id.
[[nodiscard]] Result<Collection> collect(const DatasetConfig& config);

// The conversation of a trace with its answer, as chat JSON: what the row's `messages` hold.
[[nodiscard]] Result<std::string> conversation_json(const store::Trace& trace);

// Drops duplicates, then keeps the best of each problem; counts what it drops. What is left is in order of
// problem, run, sample and attempt.
//
// Better is: faster, then shorter. Of exact and of near duplicates the best stays. Best-of-k takes the best
// trace of the problem first and then, again and again, the one for which its rank (1 for the best, 0 for the
// worst) less its greatest similarity to those taken is largest.
void select(const DatasetConfig& config, Collection& collection);

}  // namespace nemoforge::dataset
