#include "trace/trace.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/sha256.h"
#include "io/json.h"
#include "trace/extract.h"
#include "trace/refine.h"

namespace nemoforge::trace {
namespace {

// One answer that the run lacks.
struct Missing {
  size_t problem_idx;
  int64_t sample_idx;
  int64_t attempt_idx = 0;
  int64_t failed_trace_id = 0;  // of the attempt before; 0 for the first one
};

// The answers of one attempt: those that the run has and those that it lacks.
struct AttemptWork {
  std::vector<Missing> missing;
  int64_t num_earlier = 0;
};

// In order: the first sample of every problem, then the second.
Result<AttemptWork> first_attempts(const store::RunStore& run, const std::vector<Problem>& problems,
                                   int64_t num_samples) {
  AttemptWork work;
  for (int64_t sample_idx = 0; sample_idx < num_samples; ++sample_idx) {
    for (size_t problem_idx = 0; problem_idx < problems.size(); ++problem_idx) {
      NF_TRY(const bool is_there, run.has_trace(problems[problem_idx].id, sample_idx));
      if (is_there) {
        ++work.num_earlier;
      } else {
        work.missing.push_back({problem_idx, sample_idx});
      }
    }
  }
  return work;
}

// The samples of these problems whose attempt before `attempt_idx` needs refinement, in the same order.
Result<AttemptWork> later_attempts(const store::RunStore& run, const std::vector<Problem>& problems,
                                   const TraceConfig& config, int64_t attempt_idx) {
  std::map<std::string_view, size_t> problem_indices;
  for (size_t i = 0; i < problems.size(); ++i) problem_indices.emplace(problems[i].id, i);
  AttemptWork work;
  NF_RETURN_IF_ERROR(run.for_each_trace([&](store::JudgedTrace&& judged) {
    const store::Trace& trace = judged.trace;
    const auto problem = problem_indices.find(trace.problem_id);
    if (problem == problem_indices.end() || trace.sample_idx >= config.num_samples) return true;
    if (trace.attempt_idx == attempt_idx - 1 && judged.verdict &&
        needs_refinement(*judged.verdict, config.target_speedup)) {
      work.missing.push_back({problem->second, trace.sample_idx, attempt_idx, trace.id});
    }
    // Traces come in the order of attempts: the one before, if it is due, was the last to be added.
    if (trace.attempt_idx == attempt_idx) {
      ++work.num_earlier;
      if (!work.missing.empty() && work.missing.back().problem_idx == problem->second &&
          work.missing.back().sample_idx == trace.sample_idx) {
        work.missing.pop_back();
      }
    }
    return true;
  }));
  std::sort(work.missing.begin(), work.missing.end(), [](const Missing& a, const Missing& b) {
    return std::tie(a.sample_idx, a.problem_idx) < std::tie(b.sample_idx, b.problem_idx);
  });
  return work;
}

// Traces of one run are comparable: a changed setting would mix two experiments without a word.
Status check_same_settings(const store::Trace& earlier, const SourceIdentity& identity,
                           const std::string& sampling) {
  struct Setting {
    const char* name;
    const std::string& was;
    const std::string& is;
    bool may_be_unknown = false;  // a server need not say it
  };
  for (const Setting& setting :
       {Setting{"model", earlier.model, identity.model},
        Setting{"adapter", earlier.adapter, identity.adapter},
        Setting{"checkpoint", earlier.checkpoint_hash, identity.checkpoint_hash, true},
        Setting{"chat template", earlier.template_hash, identity.template_hash, true},
        Setting{"sampling", earlier.sampling_json, sampling}}) {
    if (setting.was == setting.is || (setting.may_be_unknown && (setting.was.empty() || setting.is.empty())))
      continue;
    return error(ErrorCode::kInvalidArgument,
                 std::string("the run's traces were made with another ") + setting.name + ": " + setting.was +
                     ", now " + setting.is,
                 "use the same settings, or another run folder");
  }
  return {};
}

// Whether the run may take traces that are sampled so.
Status check_run(const store::RunStore& run, bool resume, const SourceIdentity& identity,
                 const std::string& sampling) {
  std::optional<store::Trace> first;
  NF_RETURN_IF_ERROR(run.for_each_trace([&first](store::JudgedTrace&& judged) {
    first = std::move(judged.trace);
    return false;
  }));
  if (!first) return {};
  if (!resume) {
    return error(ErrorCode::kInvalidArgument, "the run holds traces already",
                 "continue it with --resume, or use another run folder");
  }
  return check_same_settings(*first, identity, sampling);
}

Result<TraceRequest> request_for(const Missing& missing, const store::RunStore& run,
                                 const std::vector<Problem>& problems, const PromptTemplate& prompt,
                                 const TraceConfig& config) {
  const Problem& problem = problems[missing.problem_idx];
  TraceRequest request{problem.id, missing.sample_idx, missing.attempt_idx, "",
                       trace_seed(config.seed, problem.id, missing.sample_idx, missing.attempt_idx)};
  if (missing.attempt_idx == 0) {
    const io::Json messages = {{{"role", "user"}, {"content", prompt.render(problem.source)}}};
    request.messages_json = io::dump_json(messages);
    return request;
  }
  NF_TRY(const std::optional<store::Trace> failed, run.trace(missing.failed_trace_id));
  NF_TRY(const std::optional<store::Verdict> verdict, run.newest_verdict(missing.failed_trace_id));
  NF_CHECK(failed.has_value() && verdict.has_value()) << missing.failed_trace_id;
  NF_TRY(request.messages_json, refinement_messages(*failed, *verdict, config.target_speedup));
  return request;
}

store::Trace to_trace(const TraceRequest& request, SampledAnswer&& sampled, const SourceIdentity& identity,
                      const std::string& sampling) {
  store::Trace trace;
  trace.problem_id = request.problem_id;
  trace.sample_idx = request.sample_idx;
  trace.attempt_idx = request.attempt_idx;
  trace.messages_json = request.messages_json;
  trace.prompt = std::move(sampled.prompt);
  trace.prompt_token_ids = std::move(sampled.prompt_token_ids);
  trace.completion_token_ids = std::move(sampled.completion_token_ids);
  trace.completion_logprobs = std::move(sampled.completion_logprobs);
  trace.template_hash = identity.template_hash;
  trace.completion = std::move(sampled.completion);
  trace.reasoning = std::move(sampled.reasoning);
  trace.answer = std::move(sampled.answer);
  trace.code = extract_python_code(trace.answer);
  trace.num_prompt_tokens = sampled.num_prompt_tokens;
  trace.num_completion_tokens = sampled.num_completion_tokens;
  trace.num_reasoning_tokens = sampled.num_reasoning_tokens;
  trace.finish_reason = std::move(sampled.finish_reason);
  trace.sampling_json = sampling;
  trace.seed = request.seed;
  trace.model = identity.model;
  trace.adapter = identity.adapter;
  trace.checkpoint_hash = identity.checkpoint_hash;
  trace.endpoint = std::move(sampled.endpoint);
  trace.started_ms = sampled.started_ms;
  trace.finished_ms = sampled.finished_ms;
  return trace;
}

// Stores answers as they come and keeps the counts.
class Recorder {
 public:
  Recorder(store::RunStore& run, const SourceIdentity& identity, std::string sampling, Progress& progress,
           TraceReport& report)
      : run_(run),
        identity_(identity),
        sampling_(std::move(sampling)),
        progress_(progress),
        report_(report) {}

  Status take(const TraceRequest& request, Result<SampledAnswer>&& sampled) {
    if (!sampled) {
      ++report_.num_failed;
      if (report_.first_failure.empty()) {
        report_.first_failure =
            request.problem_id + ", sample " + std::to_string(request.sample_idx) +
            (request.attempt_idx > 0 ? ", attempt " + std::to_string(request.attempt_idx + 1)
                                     : std::string()) +
            ": " + sampled.error().to_string();
      }
    } else {
      const store::Trace trace = to_trace(request, std::move(*sampled), identity_, sampling_);
      NF_RETURN_IF_ERROR(run_.add_trace(trace));
      ++report_.num_generated;
      report_.num_with_code += trace.code.empty() ? 0 : 1;
      report_.num_completion_tokens += trace.num_completion_tokens;
    }
    progress_.set_note(note());
    progress_.finish_item();
    return {};
  }

 private:
  std::string note() {
    const int64_t num_handled = report_.num_generated + report_.num_failed;
    std::string note = std::to_string(100 * report_.num_with_code / num_handled) + "% with code";
    note += pass_rate();
    if (report_.num_failed > 0) note += ", " + std::to_string(report_.num_failed) + " failed";
    return note;
  }

  // Of the traces that have a verdict, given between attempts or by a verifier that runs beside this process.
  // Read now and then only: it looks at all verdicts.
  const std::string& pass_rate() {
    constexpr std::chrono::seconds kInterval{10};
    const auto now = std::chrono::steady_clock::now();
    if (now < next_pass_rate_) return pass_rate_;
    next_pass_rate_ = now + kInterval;
    const auto counts = run_.verdict_counts();
    if (counts && counts->num_verified > 0) {
      pass_rate_ = ", " + std::to_string(100 * counts->num_correct / counts->num_verified) + "% of " +
                   std::to_string(counts->num_verified) + " verified correct";
    }
    return pass_rate_;
  }

  store::RunStore& run_;
  const SourceIdentity& identity_;
  std::string sampling_;
  Progress& progress_;
  TraceReport& report_;
  std::chrono::steady_clock::time_point next_pass_rate_;
  std::string pass_rate_;
};

// One attempt at all samples that are due for it.
Status generate_attempt(store::RunStore& run, const std::vector<Problem>& problems,
                        const PromptTemplate& prompt, TraceSource& source, const TraceConfig& config,
                        AttemptWork&& work, int64_t attempt_idx, TraceReport& report,
                        const ProgressOutput& progress_output, const std::function<bool()>& stopped) {
  const auto num_due = work.num_earlier + static_cast<int64_t>(work.missing.size());
  report.num_wanted += num_due;
  report.num_earlier += work.num_earlier;
  if (work.missing.empty()) return {};
  const std::string label = attempt_idx == 0 ? "trace" : "attempt " + std::to_string(attempt_idx + 1);
  Progress progress(label, "tokens", num_due, work.num_earlier, progress_output);
  Recorder recorder(run, source.identity(), sampling_json(config, prompt), progress, report);
  Status failure;
  size_t next = 0;
  const auto next_request = [&]() -> std::optional<TraceRequest> {
    if (next == work.missing.size() || !failure) return std::nullopt;
    auto request = request_for(work.missing[next++], run, problems, prompt, config);
    if (request) return std::move(*request);
    failure = forward_error(request);
    return std::nullopt;
  };
  NF_RETURN_IF_ERROR(
      source.run({.next = next_request,
                  .done =
                      [&recorder](const TraceRequest& request, Result<SampledAnswer>&& sampled) {
                        return recorder.take(request, std::move(sampled));
                      },
                  .sampled = [&progress](int64_t num_tokens) { progress.add_work(num_tokens); },
                  .stopped = stopped}));
  return failure;
}

}  // namespace

uint64_t trace_seed(uint64_t run_seed, std::string_view problem_id, int64_t sample_idx, int64_t attempt_idx) {
  std::string key = std::to_string(run_seed) + '/' + std::to_string(sample_idx);
  if (attempt_idx > 0) key += '.' + std::to_string(attempt_idx);
  key += '/';
  key.append(problem_id);
  return std::stoull(sha256_hex(key).substr(0, 16), nullptr, 16) >> 11;
}

std::string sampling_json(const TraceConfig& config, const PromptTemplate& prompt) {
  const SamplingSettings& sampling = config.sampling;
  io::Json json = {{"temperature", sampling.temperature},
                   {"top_p", sampling.top_p},
                   {"top_k", sampling.top_k},
                   {"min_p", sampling.min_p},
                   {"max_tokens", sampling.max_tokens},
                   {"reasoning_budget", nullptr},
                   {"enable_thinking", sampling.enable_thinking},
                   {"seed", config.seed},
                   {"prompt_template", prompt.hash()}};
  if (sampling.reasoning_budget) json["reasoning_budget"] = *sampling.reasoning_budget;
  return io::dump_json(json);
}

Result<TraceReport> generate_traces(store::RunStore& run, const std::vector<Problem>& problems,
                                    const PromptTemplate& prompt, TraceSource& source,
                                    const TraceConfig& config, const ProgressOutput& progress_output,
                                    const std::function<bool()>& stopped) {
  NF_CHECK(config.num_attempts == 1 || config.verify) << "later attempts need verdicts";
  const std::string sampling = sampling_json(config, prompt);
  NF_RETURN_IF_ERROR(check_run(run, config.resume, source.identity(), sampling));
  for (const Problem& problem : problems) {
    NF_RETURN_IF_ERROR(run.add_problem({problem.id, problem.source, problem.path, ""}));
  }
  TraceReport report;
  const auto started = std::chrono::steady_clock::now();
  for (int64_t attempt_idx = 0; attempt_idx < config.num_attempts; ++attempt_idx) {
    if (attempt_idx > 0) {
      // What failed is asked again by --resume, and then refined; what was interrupted likewise.
      if (!stopped()) NF_RETURN_IF_ERROR(config.verify());
      if (stopped()) {
        report.interrupted = true;
        break;
      }
    }
    NF_TRY(AttemptWork work, attempt_idx == 0 ? first_attempts(run, problems, config.num_samples)
                                              : later_attempts(run, problems, config, attempt_idx));
    NF_RETURN_IF_ERROR(generate_attempt(run, problems, prompt, source, config, std::move(work), attempt_idx,
                                        report, progress_output, stopped));
  }
  report.duration_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  if (stopped() && report.num_earlier + report.num_generated + report.num_failed < report.num_wanted) {
    report.interrupted = true;
  }
  return report;
}

}  // namespace nemoforge::trace
