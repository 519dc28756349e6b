#include "trace/engine_source.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "io/json.h"
#include "text/reasoning.h"

namespace nemoforge::trace {
namespace {

// How long a wait may last before stopped() is asked again.
constexpr std::chrono::milliseconds kMaxWait{50};

int64_t milliseconds(engine::Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

int64_t wall_clock_ms() {
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since_1970).count();
}

// From the engine's output thread to the one that runs the source. The sinks share it, so that it outlives a
// run that ends early.
class OutputQueue {
 public:
  void push(engine::RequestOutput&& output) {
    const std::scoped_lock lock(mutex_);
    outputs_.push_back(std::move(output));
    changed_.notify_one();
  }
  [[nodiscard]] std::deque<engine::RequestOutput> take() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kMaxWait, [this] { return !outputs_.empty(); });
    return std::exchange(outputs_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<engine::RequestOutput> outputs_;
};

// A request that the engine is answering.
struct Pending {
  TraceRequest request;
  SampledAnswer answer;  // the prompt's fields and, as they come, ids and logprobs
  std::string text;      // without the token that ended it
};

// One run of the source.
class EngineRun {
 public:
  EngineRun(const EngineParts& parts, const SamplingSettings& settings, const SourceCallbacks& callbacks)
      : parts_(parts), settings_(settings), callbacks_(callbacks) {}
  ~EngineRun() {
    for (const auto& [id, pending] : in_flight_) parts_.engine.cancel(id);
  }
  EngineRun(const EngineRun&) = delete;
  EngineRun& operator=(const EngineRun&) = delete;

  Status run() {
    while (!callbacks_.stopped()) {
      NF_RETURN_IF_ERROR(fill());
      if (exhausted_ && in_flight_.empty()) return {};
      for (engine::RequestOutput& output : queue_->take()) NF_RETURN_IF_ERROR(take(std::move(output)));
    }
    return {};
  }

 private:
  // Keeps a second batch waiting, so that a free slot is filled in the next step.
  Status fill() {
    const auto max_in_flight = static_cast<size_t>(2 * parts_.engine.limits().max_num_seqs);
    while (!exhausted_ && in_flight_.size() < max_in_flight) {
      auto request = callbacks_.next();
      if (!request) {
        exhausted_ = true;
        break;
      }
      Status started = start(*request);
      if (started) continue;
      // The engine takes nothing more, or this request can never be answered.
      if (started.error().code == ErrorCode::kUnavailable) return started;
      NF_RETURN_IF_ERROR(callbacks_.done(*request, forward_error(started)));
    }
    return {};
  }

  Status start(const TraceRequest& request) {
    Pending pending;
    pending.request = request;
    NF_TRY(pending.answer.prompt, render(request));
    pending.answer.prompt_token_ids = parts_.tokenizer.encode(pending.answer.prompt);
    engine::Request engine_request;
    engine_request.prompt_token_ids = pending.answer.prompt_token_ids;
    engine_request.sampling.temperature = static_cast<float>(settings_.temperature);
    engine_request.sampling.top_p = static_cast<float>(settings_.top_p);
    engine_request.sampling.top_k = static_cast<int32_t>(settings_.top_k);
    engine_request.sampling.min_p = static_cast<float>(settings_.min_p);
    engine_request.sampling.seed = request.seed;
    engine_request.sampling.top_logprobs = 0;
    engine_request.max_tokens = static_cast<int32_t>(settings_.max_tokens);
    engine_request.adapter = parts_.adapter;
    engine_request.skip_special_tokens = false;
    if (settings_.reasoning_budget) {
      engine_request.thinking_budget =
          engine::ThinkingBudget{.max_tokens = static_cast<int32_t>(*settings_.reasoning_budget)};
    }
    NF_TRY(const engine::RequestId id,
           parts_.engine.add_request(
               std::move(engine_request),
               [queue = queue_](engine::RequestOutput&& output) { queue->push(std::move(output)); }));
    in_flight_.emplace(id, std::move(pending));
    return {};
  }

  Result<std::string> render(const TraceRequest& request) const {
    NF_TRY(const io::Json messages, io::parse_json(request.messages_json));
    const io::Json kwargs = {{"enable_thinking", settings_.enable_thinking}};
    text::ChatRequest chat;
    chat.messages = &messages;
    chat.chat_template_kwargs = &kwargs;
    return parts_.chat_template.render(chat);
  }

  Status take(engine::RequestOutput&& output) {
    const auto entry = in_flight_.find(output.request_id);
    NF_CHECK(entry != in_flight_.end()) << output.request_id;
    Pending& pending = entry->second;
    for (const sampling::SampledToken& token : output.tokens) {
      pending.answer.completion_token_ids.push_back(token.token_id);
      pending.answer.completion_logprobs.push_back(token.logprob);
    }
    pending.text += output.text;
    callbacks_.sampled(static_cast<int64_t>(output.tokens.size()));
    if (!output.finish) return {};
    Pending done = std::move(pending);
    in_flight_.erase(entry);
    return finish(std::move(done), *output.finish);
  }

  Status finish(Pending&& pending, const engine::Finish& end) {
    if (end.error) return callbacks_.done(pending.request, tl::unexpected<Error>(*end.error));
    SampledAnswer& answer = pending.answer;
    answer.completion = parts_.tokenizer.decode(answer.completion_token_ids);
    text::ReasoningDelta split = text::split_reasoning(pending.text, text::reasoning_start(answer.prompt));
    answer.reasoning = std::move(split.reasoning);
    answer.answer = std::move(split.content);
    answer.num_prompt_tokens = end.usage.prompt_tokens;
    answer.num_completion_tokens = end.usage.completion_tokens;
    answer.num_reasoning_tokens = end.usage.reasoning_tokens;
    answer.finish_reason = engine::finish_reason_name(end.reason);
    answer.finished_ms = wall_clock_ms();
    answer.started_ms = answer.finished_ms - milliseconds(end.timings.last_token - end.timings.scheduled);
    return callbacks_.done(pending.request, std::move(answer));
  }

  const EngineParts& parts_;
  const SamplingSettings& settings_;
  const SourceCallbacks& callbacks_;
  std::shared_ptr<OutputQueue> queue_ = std::make_shared<OutputQueue>();
  std::map<engine::RequestId, Pending> in_flight_;
  bool exhausted_ = false;  // there is no next request
};

}  // namespace

EngineSource::EngineSource(EngineParts parts, SourceIdentity identity, SamplingSettings settings)
    : parts_(std::move(parts)), identity_(std::move(identity)), settings_(settings) {}

Status EngineSource::run(const SourceCallbacks& callbacks) {
  return EngineRun(parts_, settings_, callbacks).run();
}

}  // namespace nemoforge::trace
