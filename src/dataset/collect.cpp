#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/sha256.h"
#include "dataset/candidate.h"
#include "dataset/problem_structure.h"
#include "dataset/python_tokens.h"
#include "dataset/script_share.h"
#include "io/json.h"
#include "store/problem_split.h"

namespace nemoforge::dataset {
namespace {

constexpr size_t kShingleLen = 5;

// The hash by which exact duplicates know each other.
std::string content_hash(const std::vector<std::string_view>& code,
                         const std::vector<std::string_view>& reasoning) {
  Sha256 hash;
  for (const auto* part : {&code, &reasoning}) {
    for (const std::string_view token : *part) {
      hash.update(token);
      hash.update(" ");
    }
    hash.update("\n");
  }
  return hash.hex_digest();
}

bool is_accepted(const DatasetConfig& config, const store::Verdict& verdict) {
  return verdict.correct && config.accepted_verdicts.contains(verdict.verdict);
}

// The first reason against a trace that needs no tokens counted.
std::optional<DropReason> reason_against(const DatasetConfig& config, const store::JudgedTrace& judged,
                                         const ProblemFacts& problem) {
  const store::Trace& trace = judged.trace;
  if (!judged.verdict || judged.verdict->verdict == "not_verified") return DropReason::kNotVerified;
  if (!is_accepted(config, *judged.verdict) || trace.code.empty()) return DropReason::kFailed;
  if (problem.is_held_out) return DropReason::kHeldOut;
  if (problem.is_contaminated) return DropReason::kContaminated;
  if (!config.accepted_finish_reasons.contains(trace.finish_reason)) return DropReason::kFinishReason;
  if (config.min_speedup && judged.verdict->speedup.value_or(0) < *config.min_speedup) {
    return DropReason::kSpeedup;
  }
  const bool is_thought_too_short = trace.num_reasoning_tokens < config.min_reasoning_tokens;
  const bool is_thought_too_long =
      config.max_reasoning_tokens && trace.num_reasoning_tokens > *config.max_reasoning_tokens;
  if (is_thought_too_short || is_thought_too_long) return DropReason::kReasoningLength;
  if (config.max_non_latin_share < 1 &&
      non_latin_share(trace.reasoning + "\n" + trace.answer) > config.max_non_latin_share) {
    return DropReason::kLanguage;
  }
  return std::nullopt;
}

Result<int64_t> tokens_of(const DatasetConfig& config, const store::Trace& trace) {
  if (!config.count_tokens) return trace.num_prompt_tokens + trace.num_completion_tokens;
  NF_TRY(const std::string messages, conversation_json(trace));
  return config.count_tokens(messages);
}

Candidate describe(size_t run_idx, const store::JudgedTrace& judged, std::vector<int64_t>&& earlier_trace_ids,
                   int64_t num_tokens) {
  const store::Trace& trace = judged.trace;
  const std::vector<std::string_view> code = python_tokens(trace.code);
  const std::vector<std::string_view> reasoning = words(trace.reasoning);
  return {.run_idx = run_idx,
          .trace_id = trace.id,
          .problem_id = trace.problem_id,
          .sample_idx = trace.sample_idx,
          .attempt_idx = trace.attempt_idx,
          .earlier_trace_ids = std::move(earlier_trace_ids),
          .verdict = judged.verdict->verdict,
          .speedup = judged.verdict->speedup,
          .num_tokens = num_tokens,
          .num_completion_tokens = trace.num_completion_tokens,
          .content_hash = content_hash(code, reasoning),
          .code = min_hash(code, kShingleLen),
          .reasoning = min_hash(reasoning, kShingleLen)};
}

Status add_problems(Collection& collection, size_t run_idx) {
  const std::string& dir = collection.run_facts[run_idx].dir;
  NF_TRY(const std::vector<store::Problem> problems, collection.runs[run_idx].problems());
  NF_TRY(const store::ProblemSplits splits, store::read_problem_splits(dir));
  for (const store::Problem& problem : problems) {
    const std::string source_hash = sha256_hex(problem.source);
    ProblemFacts& facts = collection.problems[problem.id];
    if (!facts.source_hash.empty() && facts.source_hash != source_hash) {
      return error(ErrorCode::kInvalidData,
                   "the runs have different problems under the id " + problem.id + ", one of them in " + dir,
                   "make a dataset of each");
    }
    facts.source_hash = source_hash;
    const std::vector<std::string> structure = structure_tokens(problem.source);
    facts.structure_hash = structure_hash(structure);
    facts.structure = min_hash({structure.begin(), structure.end()}, kShingleLen);
    if (facts.origin.empty()) facts.origin = problem.origin;
    const auto side = splits.find(problem.id);
    // Held out in one run is held out in all.
    if (side != splits.end() && side->second == store::Split::kHeldOut) facts.is_held_out = true;
  }
  return {};
}

void mark_held_out(const DatasetConfig& config, std::map<std::string, ProblemFacts>& problems) {
  std::set<std::string> structures;
  std::vector<MinHash> signatures;
  for (const HeldOutProblem& problem : config.held_out) {
    const std::vector<std::string> structure = structure_tokens(problem.source);
    structures.insert(structure_hash(structure));
    signatures.push_back(min_hash({structure.begin(), structure.end()}, kShingleLen));
    if (const auto entry = problems.find(problem.id); entry != problems.end())
      entry->second.is_held_out = true;
  }
  for (const auto& [id, facts] : problems) {
    if (!facts.is_held_out) continue;
    structures.insert(facts.structure_hash);
    signatures.push_back(facts.structure);
  }
  for (auto& [id, facts] : problems) {
    const bool is_like_one =
        structures.contains(facts.structure_hash) ||
        std::any_of(signatures.begin(), signatures.end(),
                    [&config, &structure = facts.structure](const MinHash& held_out) {
                      return similarity(structure, held_out) >= config.contamination_similarity;
                    });
    facts.is_contaminated = !facts.is_held_out && is_like_one;
  }
}

Status add_traces(const DatasetConfig& config, Collection& collection, size_t run_idx) {
  Status failure;
  RunFacts& run_facts = collection.run_facts[run_idx];
  AttemptChain chain;
  NF_RETURN_IF_ERROR(collection.runs[run_idx].for_each_trace([&](store::JudgedTrace&& judged) {
    const store::Trace& trace = judged.trace;
    std::vector<int64_t> earlier_trace_ids = chain.before(trace);
    ++collection.num_traces;
    ++run_facts.num_traces;
    ++run_facts.sources[{trace.model, trace.adapter, trace.checkpoint_hash, trace.template_hash,
                         trace.sampling_json}];
    if (const auto reason = reason_against(config, judged, collection.problems[trace.problem_id])) {
      ++collection.num_dropped[*reason];
      return true;
    }
    const auto num_tokens = tokens_of(config, trace);
    if (!num_tokens) {
      failure = forward_error(num_tokens);
      return false;
    }
    if (config.max_tokens && *num_tokens > *config.max_tokens) {
      ++collection.num_dropped[DropReason::kTokenBudget];
      return true;
    }
    collection.candidates.push_back(describe(run_idx, judged, std::move(earlier_trace_ids), *num_tokens));
    return true;
  }));
  return failure;
}

}  // namespace

Result<std::string> conversation_json(const store::Trace& trace) {
  NF_TRY(io::Json messages, io::parse_json(trace.messages_json));
  if (!messages.is_array()) {
    return error(ErrorCode::kInvalidData,
                 "the messages of trace " + std::to_string(trace.id) + " are no list");
  }
  messages.push_back(
      {{"role", "assistant"}, {"content", trace.answer}, {"reasoning_content", trace.reasoning}});
  return io::dump_json(messages);
}

Result<Collection> collect(const DatasetConfig& config) {
  Collection collection;
  for (const std::string& dir : config.run_dirs) {
    NF_TRY(store::RunStore run, store::RunStore::open(dir, store::Access::kRead));
    collection.runs.push_back(std::move(run));
    collection.run_facts.push_back({.dir = dir, .num_traces = 0, .sources = {}});
    NF_RETURN_IF_ERROR(add_problems(collection, collection.runs.size() - 1));
  }
  mark_held_out(config, collection.problems);
  for (size_t run_idx = 0; run_idx < collection.runs.size(); ++run_idx) {
    NF_RETURN_IF_ERROR(add_traces(config, collection, run_idx));
  }
  return collection;
}

}  // namespace nemoforge::dataset
