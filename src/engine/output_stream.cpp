#include "engine/output_stream.h"

#include <exception>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace nemoforge::engine {

OutputStream::OutputStream(const text::Tokenizer* tokenizer, std::shared_ptr<const ThinkingTokens> tags,
                           const Request& request, uint64_t seed, uint32_t completion_idx,
                           Clock::time_point arrival, std::shared_ptr<OutputGroup> group)
    : tokenizer_(tokenizer),
      kept_tags_(request.keep_tag_tokens ? std::move(tags) : nullptr),
      skip_special_tokens_(request.skip_special_tokens),
      stop_strings_(request.stop),
      stop_(request.stop),
      include_stop_(request.include_stop_str_in_output),
      min_tokens_(request.sampling.min_tokens),
      group_(std::move(group)),
      last_chosen_(arrival) {
  if (tokenizer != nullptr) decoder_.emplace(*tokenizer);
  next_.request_id = group_->request_id;
  next_.completion_idx = completion_idx;
  finish_.usage.prompt_tokens = static_cast<int32_t>(request.prompt_token_ids.size());
  finish_.timings = {arrival, arrival, arrival, arrival};
  finish_.seed = seed;
}

void OutputStream::take(OutputEvent&& event) {
  if (has_ended()) return;
  finish_.timings.scheduled = event.scheduled;
  finish_.usage.cached_tokens = event.cached_tokens;
  if (event.emission) {
    take_token(std::move(*event.emission), event.time);
  } else {
    NF_CHECK(event.finish);
    finish_.error = std::move(event.finish->error);
    end(event.finish->reason);
  }
}

void OutputStream::take_token(Emission&& emission, Clock::time_point time) {
  const int32_t id = emission.token.token_id;
  Usage& usage = finish_.usage;
  if (++usage.completion_tokens == 1) finish_.timings.first_token = time;
  finish_.timings.last_token = last_chosen_ = time;
  if (emission.is_reasoning) ++usage.reasoning_tokens;
  next_.tokens.push_back(std::move(emission.token));
  if (!emission.prompt_logprobs.empty()) next_.prompt_logprobs = std::move(emission.prompt_logprobs);
  next_.is_reasoning.push_back(emission.is_reasoning);

  const bool ends_as_token = emission.is_stop_token || emission.is_eos;
  if (emission.is_stop_token) finish_.stop_reason = id;
  if (decoder_ && is_shown(id) && (!ends_as_token || include_stop_)) append_text(decoder_->push(id));
  if (emission.finish && !has_ended()) end(*emission.finish);
}

bool OutputStream::is_shown(int32_t token_id) const {
  if (!skip_special_tokens_ || !tokenizer_->is_special(token_id)) return true;
  const ThinkingTokens* tags = kept_tags_.get();
  return tags != nullptr && (token_id == tags->think_start || token_id == tags->think_end ||
                             token_id == tags->tool_call_start || token_id == tags->tool_call_end);
}

// Stop strings count from the text of the tokens beyond min_tokens.
void OutputStream::append_text(const std::string& text) {
  if (finish_.usage.completion_tokens <= min_tokens_) {
    next_.text += text;
    return;
  }
  if (const auto match = stop_strings_.push(text, include_stop_, next_.text)) {
    finish_.stop_reason = stop_[match->stop_idx];
    decoder_.reset();  // what it holds back comes after the stop string
    end(FinishReason::kStop);
  }
}

void OutputStream::end(FinishReason reason) {
  if (decoder_) {
    const std::string rest = decoder_->finish();
    decoder_.reset();
    append_text(rest);
    if (has_ended()) return;
    next_.text += stop_strings_.finish();
  }
  finish_.reason = reason;
  next_.finish = std::move(finish_);
  has_ended_.store(true, std::memory_order_release);
}

void OutputStream::flush() {
  if (next_.tokens.empty() && !next_.finish) return;
  next_.chosen = last_chosen_;
  next_.request_finished = next_.finish && --group_->num_unfinished == 0;
  RequestOutput output = std::exchange(next_, {});
  next_.request_id = output.request_id;
  next_.completion_idx = output.completion_idx;
  try {
    group_->sink(std::move(output));
  } catch (const std::exception& e) {
    spdlog::error("request {}: its sink failed: {}", next_.request_id, e.what());
    has_ended_.store(true, std::memory_order_release);
  }
}

OutputThread::OutputThread() : thread_([this] { run(); }) {}

OutputThread::~OutputThread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void OutputThread::post(std::vector<OutputEvent>&& events) {
  if (events.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    std::move(events.begin(), events.end(), std::back_inserter(events_));
  }
  changed_.notify_all();
}

void OutputThread::wait_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return events_.empty() && !busy_; });
}

void OutputThread::run() {
  std::vector<OutputEvent> events;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !events_.empty(); });
    if (events_.empty()) return;
    events.swap(events_);
    busy_ = true;
    lock.unlock();
    // Events that piled up for a stream go out together.
    std::vector<std::shared_ptr<OutputStream>> streams;
    for (OutputEvent& event : events) {
      if (streams.empty() || streams.back() != event.stream) streams.push_back(event.stream);
      std::shared_ptr<OutputStream> stream = event.stream;
      stream->take(std::move(event));
    }
    for (const auto& stream : streams) stream->flush();
    events.clear();
    streams.clear();
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace nemoforge::engine
