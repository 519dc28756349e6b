// From the verified traces of runs to a dataset for supervised finetuning.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"

namespace nemoforge::dataset {

// A problem that no row may come from, whatever the runs say.
struct HeldOutProblem {
  std::string id;
  std::string source;
};

// How many tokens a conversation (a JSON array of messages) has for the model that will learn from it.
using TokenCounter = std::function<Result<int64_t>(const std::string& messages_json)>;

// What a row looks like: the chat with its provenance, or a row of the public multi-turn KernelBook trace
// sets (ppbhatt500/kernelbook-triton-multiturn-reasoning-traces): pytorch_code, final_triton_code,
// final_result, and as JSON texts turns (with their reasoning) and full_messages.
enum class RowFormat { kChat, kKernelBook };

struct DatasetConfig {
  std::vector<std::string> run_dirs;
  std::string
      out;  // "dir/name.jsonl"; name.manifest.json, name.README.md and name.validation.jsonl stand beside it
  std::string nemoforge_version;
  // For the card. The rows' licence as the hub spells it ("apache-2.0"), and those of what they were made of,
  // one line each ("KernelBench problems: MIT"); empty: not said.
  std::string licence;
  std::vector<std::string> source_licences;
  RowFormat format = RowFormat::kChat;

  std::set<std::string> accepted_verdicts = {"correct", "correct_cpu"};
  std::set<std::string> accepted_finish_reasons = {"stop"};
  std::optional<double> min_speedup;  // a trace whose speedup is not known does not reach it
  int64_t min_reasoning_tokens = 0;
  std::optional<int64_t> max_reasoning_tokens;
  double max_non_latin_share = 1;     // of the letters of reasoning and answer (script_share.h)
  std::optional<int64_t> max_tokens;  // of the whole conversation
  TokenCounter count_tokens;          // absent: prompt and completion tokens as they were sampled

  double near_duplicate_similarity = 0.9;  // of code and of reasoning; above 1: only exact duplicates go
  std::optional<int64_t> best_of;          // rows of a problem
  double validation_fraction = 0;          // share of the problems whose rows go to the validation file
  uint64_t split_seed = 0;
  std::vector<HeldOutProblem> held_out;  // besides those that the runs hold out
  // A problem whose structure is so similar to a held-out one's has no rows; above 1: only of equal
  // structure.
  double contamination_similarity = 0.9;
};

// Why a trace is not in the dataset, in the order in which it is asked.
enum class DropReason {
  kNotVerified,
  kFailed,
  kHeldOut,
  kContaminated,
  kFinishReason,
  kSpeedup,
  kReasoningLength,
  kLanguage,
  kTokenBudget,
  kExactDuplicate,
  kNearDuplicate,
  kBestOf,
};
inline constexpr size_t kNumDropReasons = static_cast<size_t>(DropReason::kBestOf) + 1;

// "not verified", "verification failed", ...
[[nodiscard]] const char* drop_reason_text(DropReason reason);

struct DatasetReport {
  int64_t num_traces = 0;
  std::map<DropReason, int64_t> num_dropped;
  int64_t num_rows = 0;             // of both files
  int64_t num_validation_rows = 0;  // of them
  int64_t num_problems = 0;         // that have rows
  int64_t num_tokens = 0;
  std::vector<std::string> files;
};

// Selects the traces and writes the files, each whole or not at all. The same runs and settings give the same
// bytes, whenever and wherever. Rows are in order of problem, run, sample and attempt. kNotFound, with the
// reasons counted, where no trace is left. A held-out problem, or one of the same structure, never gets a
// row.
[[nodiscard]] Result<DatasetReport> build_dataset(const DatasetConfig& config);

// Writes the rows that the manifest lists to `out` again (and its validation file), byte for byte. The runs
// are where the manifest says, or, in the same order, at `run_dirs`. Writes nothing and is kInvalidData where
// the bytes would not have the manifest's SHA-256, kNotFound where a run lacks a trace.
[[nodiscard]] Result<DatasetReport> rebuild_dataset(const std::string& manifest_path, const std::string& out,
                                                    const std::vector<std::string>& run_dirs = {});

}  // namespace nemoforge::dataset
