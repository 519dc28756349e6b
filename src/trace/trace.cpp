#include "trace/trace.h"

#include <chrono>
#include <functional>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/sha256.h"
#include "io/json.h"
#include "trace/extract.h"

namespace nemoforge::trace {
namespace {

// One answer that the run lacks.
struct Missing {
  size_t problem_idx;
  int64_t sample_idx;
};

// In order: the first sample of every problem, then the second.
Result<std::vector<Missing>> find_missing(const store::RunStore& run, const std::vector<Problem>& problems,
                                          int64_t num_samples) {
  std::vector<Missing> missing;
  for (int64_t sample_idx = 0; sample_idx < num_samples; ++sample_idx) {
    for (size_t problem_idx = 0; problem_idx < problems.size(); ++problem_idx) {
      NF_TRY(const bool is_there, run.has_trace(problems[problem_idx].id, sample_idx));
      if (!is_there) missing.push_back({problem_idx, sample_idx});
    }
  }
  return missing;
}

// Traces of one run are comparable: a changed setting would mix two experiments without a word.
Status check_same_settings(const store::Trace& earlier, const SourceIdentity& identity,
                           const std::string& sampling) {
  struct Setting {
    const char* name;
    const std::string& was;
    const std::string& is;
  };
  for (const Setting& setting : {Setting{"model", earlier.model, identity.model},
                                 Setting{"adapter", earlier.adapter, identity.adapter},
                                 Setting{"checkpoint", earlier.checkpoint_hash, identity.checkpoint_hash},
                                 Setting{"chat template", earlier.template_hash, identity.template_hash},
                                 Setting{"sampling", earlier.sampling_json, sampling}}) {
    if (setting.was == setting.is) continue;
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

TraceRequest request_for(const Missing& missing, const std::vector<Problem>& problems,
                         const PromptTemplate& prompt, uint64_t run_seed) {
  const Problem& problem = problems[missing.problem_idx];
  const io::Json messages = {{{"role", "user"}, {"content", prompt.render(problem.source)}}};
  return {problem.id, missing.sample_idx, io::dump_json(messages),
          trace_seed(run_seed, problem.id, missing.sample_idx)};
}

store::Trace to_trace(const TraceRequest& request, SampledAnswer&& sampled, const SourceIdentity& identity,
                      const std::string& sampling) {
  store::Trace trace;
  trace.problem_id = request.problem_id;
  trace.sample_idx = request.sample_idx;
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
        report_.first_failure = request.problem_id + ", sample " + std::to_string(request.sample_idx) + ": " +
                                sampled.error().to_string();
      }
    } else {
      const store::Trace trace = to_trace(request, std::move(*sampled), identity_, sampling_);
      NF_RETURN_IF_ERROR(run_.add_trace(trace));
      ++report_.num_generated;
      report_.num_with_code += trace.code.empty() ? 0 : 1;
      report_.num_completion_tokens += trace.num_completion_tokens;
    }
    const int64_t num_handled = report_.num_generated + report_.num_failed;
    std::string note = std::to_string(100 * report_.num_with_code / num_handled) + "% with code";
    if (report_.num_failed > 0) note += ", " + std::to_string(report_.num_failed) + " failed";
    progress_.set_note(std::move(note));
    progress_.finish_item();
    return {};
  }

 private:
  store::RunStore& run_;
  const SourceIdentity& identity_;
  std::string sampling_;
  Progress& progress_;
  TraceReport& report_;
};

}  // namespace

uint64_t trace_seed(uint64_t run_seed, std::string_view problem_id, int64_t sample_idx) {
  std::string key = std::to_string(run_seed) + '/' + std::to_string(sample_idx) + '/';
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
  const std::string sampling = sampling_json(config, prompt);
  NF_RETURN_IF_ERROR(check_run(run, config.resume, source.identity(), sampling));
  for (const Problem& problem : problems) {
    NF_RETURN_IF_ERROR(run.add_problem({problem.id, problem.source, problem.path, ""}));
  }
  NF_TRY(const std::vector<Missing> missing, find_missing(run, problems, config.num_samples));
  TraceReport report;
  report.num_wanted = static_cast<int64_t>(problems.size()) * config.num_samples;
  report.num_earlier = report.num_wanted - static_cast<int64_t>(missing.size());
  const auto started = std::chrono::steady_clock::now();
  Progress progress("trace", "tokens", report.num_wanted, report.num_earlier, progress_output);
  Recorder recorder(run, source.identity(), sampling, progress, report);
  size_t next = 0;
  const auto next_request = [&]() -> std::optional<TraceRequest> {
    if (next == missing.size()) return std::nullopt;
    return request_for(missing[next++], problems, prompt, config.seed);
  };
  NF_RETURN_IF_ERROR(
      source.run({.next = next_request,
                  .done =
                      [&recorder](const TraceRequest& request, Result<SampledAnswer>&& sampled) {
                        return recorder.take(request, std::move(sampled));
                      },
                  .sampled = [&progress](int64_t num_tokens) { progress.add_work(num_tokens); },
                  .stopped = stopped}));
  report.duration_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  report.interrupted =
      stopped() && report.num_earlier + report.num_generated + report.num_failed < report.num_wanted;
  return report;
}

}  // namespace nemoforge::trace
