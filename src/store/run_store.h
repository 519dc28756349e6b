// A run: the folder in which the problems, the generated traces and their verdicts of one experiment are
// kept, each stored at once and whole, so that a killed process loses nothing that was finished.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace nemoforge::store {

// One PyTorch problem in KernelBench's form.
struct Problem {
  std::string id;              // unique in the run, such as the file's stem
  std::string source;          // the text of the file
  std::string origin;          // where it came from: a path or a set's name
  std::string overrides_json;  // JSON object: values for module constants; "" is stored as "{}"
};

// One sampled answer. Texts are UTF-8; ids and logprobs are those of the sampling itself, never retokenised.
struct Trace {
  int64_t id = 0;  // set by the store
  std::string problem_id;
  int64_t sample_idx = 0;
  int64_t attempt_idx = 0;    // 0, or the turn of a refinement that follows a failed attempt
  std::string messages_json;  // the request's messages as a JSON array
  std::string prompt;         // rendered text
  std::vector<int32_t> prompt_token_ids;
  std::vector<int32_t> completion_token_ids;
  std::vector<float> completion_logprobs;  // of completion_token_ids, or empty where not known
  std::string template_hash;
  std::string completion;  // the whole text as sampled, special tokens included
  std::string reasoning;
  std::string answer;
  std::string code;  // the extracted candidate; empty where there was none
  int64_t num_prompt_tokens = 0;
  int64_t num_completion_tokens = 0;
  int64_t num_reasoning_tokens = 0;
  std::string finish_reason;
  std::string sampling_json;
  uint64_t seed = 0;
  std::string model;
  std::string adapter;
  std::string checkpoint_hash;
  std::string endpoint;  // empty: sampled in process
  int64_t started_ms = 0;
  int64_t finished_ms = 0;
};

// What a verification found out about one trace.
struct Verdict {
  int64_t trace_id = 0;
  std::string verdict;  // "correct_cpu", "mismatch", "cheating:decoy_kernel", ...
  std::string family;   // of the attack, or empty
  std::string stage;
  bool correct = false;
  std::optional<double> speedup;
  std::string device;  // "interpret" or "cuda"
  bool sandboxed = true;
  std::string record_json;  // the whole record
  int64_t started_ms = 0;
  int64_t finished_ms = 0;
};

// Who wrote: one row for each process that opened the run for writing.
struct Invocation {
  std::string command;  // "trace", "verify"
  std::string nemoforge_version;
  std::string config_json = "{}";  // the command's effective settings
};

// Each kind of writer excludes a second one of its own kind; a tracer and a verifier may work side by side.
enum class Access { kRead, kTrace, kVerify };

// Counts over a run; verdicts are the newest of each trace.
struct Summary {
  int64_t num_problems = 0;
  int64_t num_traces = 0;
  int64_t num_verified = 0;
  int64_t num_correct = 0;
  int64_t num_problems_solved = 0;
  int64_t num_prompt_tokens = 0;
  int64_t num_completion_tokens = 0;
  std::vector<std::pair<std::string, int64_t>> verdicts;  // most frequent first
};

// How many traces have a verdict, and how many of these are correct; the newest verdict counts.
struct VerdictCounts {
  int64_t num_verified = 0;
  int64_t num_correct = 0;
};

// A trace with its newest verdict, if it has one.
struct JudgedTrace {
  Trace trace;
  std::optional<Verdict> verdict;
};

// The store of one run. Its methods may be called from several threads; each call is one transaction.
class RunStore {
 public:
  RunStore(RunStore&& other) noexcept;
  RunStore& operator=(RunStore&& other) noexcept;
  ~RunStore();

  // Opens the run in `dir`. A writer creates the folder and the database where they are missing and records
  // its invocation; it holds the lock of its kind while it lives, and a second one gets kUnavailable with the
  // holder's process id. Only kTrace creates a run; the others get kNotFound where there is none.
  [[nodiscard]] static Result<RunStore> open(const std::string& dir, Access access,
                                             const Invocation& invocation = {});

  // Adds the problem; the same problem again is no error, another text or other overrides under its id is
  // kInvalidArgument.
  [[nodiscard]] Status add_problem(const Problem& problem);
  [[nodiscard]] Result<std::optional<Problem>> problem(const std::string& id) const;
  // In order of id.
  [[nodiscard]] Result<std::vector<Problem>> problems() const;

  // Stores the trace durably and returns its id. kInvalidArgument where (problem, sample, attempt) exists
  // already, or the problem does not.
  [[nodiscard]] Result<int64_t> add_trace(const Trace& trace);
  [[nodiscard]] Result<bool> has_trace(const std::string& problem_id, int64_t sample_idx,
                                       int64_t attempt_idx = 0) const;

  // Calls visit for every trace with its newest verdict, in order of (problem, sample, attempt), until visit
  // returns false: a run may be larger than memory. visit must not call the store.
  [[nodiscard]] Status for_each_trace(const std::function<bool(JudgedTrace&&)>& visit) const;
  [[nodiscard]] Result<std::optional<Trace>> trace(int64_t id) const;

  // Stores a verdict; earlier ones of the same trace stay as history.
  [[nodiscard]] Status add_verdict(const Verdict& verdict);
  [[nodiscard]] Result<std::optional<Verdict>> newest_verdict(int64_t trace_id) const;
  // Ids of the traces that have no verdict from `device` (a `not_verified` says nothing and does not count).
  [[nodiscard]] Result<std::vector<int64_t>> unverified_traces(const std::string& device) const;

  // Reads every trace.
  [[nodiscard]] Result<Summary> summary() const;
  // Reads no trace: cheap enough to be asked while a large run grows.
  [[nodiscard]] Result<VerdictCounts> verdict_counts() const;

 private:
  struct State;
  explicit RunStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace nemoforge::store
