// Where sampled answers come from: the engine in this process, or OpenAI endpoints.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace nemoforge::trace {

// How answers are sampled; the same for all of a run.
struct SamplingSettings {
  double temperature = 1.0;
  double top_p = 1.0;
  int64_t top_k = 0;  // 0: all tokens
  double min_p = 0.0;
  int64_t max_tokens = 4096;
  std::optional<int64_t> reasoning_budget;  // tokens of a thought; absent: no bound but max_tokens
  bool enable_thinking = true;
};

// One answer that is wanted.
struct TraceRequest {
  std::string problem_id;
  int64_t sample_idx = 0;
  int64_t attempt_idx = 0;
  std::string messages_json;  // the chat's messages, a JSON array
  uint64_t seed = 0;
};

// One answer as it was sampled. What a source cannot know stays empty.
struct SampledAnswer {
  std::string prompt;
  std::vector<int32_t> prompt_token_ids;
  std::vector<int32_t> completion_token_ids;
  std::vector<float> completion_logprobs;  // of completion_token_ids, or empty
  std::string completion;                  // the whole text, special tokens included
  std::string reasoning;
  std::string answer;
  int64_t num_prompt_tokens = 0;
  int64_t num_completion_tokens = 0;
  int64_t num_reasoning_tokens = 0;
  std::string finish_reason;
  std::string endpoint;
  int64_t started_ms = 0;  // milliseconds since 1970
  int64_t finished_ms = 0;
};

// What the answers of a source have in common.
struct SourceIdentity {
  std::string model;
  std::string adapter;
  std::string checkpoint_hash;
  std::string template_hash;
};

// How a source gets its work and hands over what it has made. All are called on the thread that called run().
struct SourceCallbacks {
  // The next request; nothing once there is no more.
  std::function<std::optional<TraceRequest>()> next;
  // A request's answer, or why it will have none. A failed Status ends the run.
  std::function<Status(const TraceRequest&, Result<SampledAnswer>&&)> done;
  // Completion tokens sampled since the last call, for the progress view.
  std::function<void(int64_t num_tokens)> sampled;
  // Whether to stop: asked often. What is not done by then is dropped.
  std::function<bool()> stopped;
};

class TraceSource {
 public:
  virtual ~TraceSource() = default;

  [[nodiscard]] virtual const SourceIdentity& identity() const = 0;

  // Works on as many requests at once as it can until there are no more or it is told to stop. Fails where
  // no request can be answered any more.
  [[nodiscard]] virtual Status run(const SourceCallbacks& callbacks) = 0;
};

}  // namespace nemoforge::trace
