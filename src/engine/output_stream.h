// From the tokens of a completion to what its request's sink is given: text, stop strings, usage.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/emit.h"
#include "engine/request.h"
#include "engine/stop_strings.h"
#include "engine/thinking.h"
#include "text/tokenizer/stream_decoder.h"
#include "text/tokenizer/tokenizer.h"

namespace nemoforge::engine {

// What the streams of one request share. Of the output thread.
struct OutputGroup {
  RequestId request_id = 0;
  OutputSink sink;
  int32_t num_unfinished = 0;
};

// Something that happened to a completion in a step.
struct OutputEvent {
  std::shared_ptr<OutputStream> stream;
  std::optional<Emission> emission;  // a token, or
  std::optional<Finish> finish;      // an end without one (abort, error): reason and error
  Clock::time_point time;
  Clock::time_point scheduled;
  int32_t cached_tokens = 0;
};

// One completion. Of the output thread, but for has_ended().
class OutputStream {
 public:
  // `tokenizer` (null: there is no text) outlives the stream.
  // `tags` (null: the vocabulary has none) are those that keep_tag_tokens means.
  OutputStream(const text::Tokenizer* tokenizer, std::shared_ptr<const ThinkingTokens> tags,
               const Request& request, uint64_t seed, uint32_t completion_idx, Clock::time_point arrival,
               std::shared_ptr<OutputGroup> group);

  // Takes an event into the next output. After the end events are ignored.
  void take(OutputEvent&& event);
  // Passes what was taken since the last call to the sink.
  void flush();

  // Whether the completion is over for its request, although the scheduler may not know yet: a stop string
  // was found. From any thread.
  [[nodiscard]] bool has_ended() const { return has_ended_.load(std::memory_order_acquire); }

 private:
  void take_token(Emission&& emission, Clock::time_point time);
  [[nodiscard]] bool is_shown(int32_t token_id) const;
  void append_text(const std::string& text);
  void end(FinishReason reason);

  const text::Tokenizer* tokenizer_;
  std::shared_ptr<const ThinkingTokens> kept_tags_;
  bool skip_special_tokens_;
  std::optional<text::StreamDecoder> decoder_;
  StopStrings stop_strings_;
  std::vector<std::string> stop_;
  bool include_stop_;
  int32_t min_tokens_;
  std::shared_ptr<OutputGroup> group_;

  RequestOutput next_;
  Finish finish_;  // becomes complete with the last token
  Clock::time_point last_chosen_;
  std::atomic<bool> has_ended_ = false;
};

// The thread that runs streams and sinks, so that neither holds up a step.
class OutputThread {
 public:
  OutputThread();
  ~OutputThread();  // after all posted events are done
  OutputThread(const OutputThread&) = delete;
  OutputThread& operator=(const OutputThread&) = delete;

  void post(std::vector<OutputEvent>&& events);
  // Returns when all events posted before are done.
  void wait_idle();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<OutputEvent> events_;
  bool busy_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace nemoforge::engine
