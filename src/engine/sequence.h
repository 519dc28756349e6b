// One completion in the making.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/request.h"
#include "engine/thinking.h"
#include "grammar/matcher.h"
#include "sampling/token_history.h"

namespace nemoforge::engine {

struct Sequence;

// The state after a prompt, kept so that further samples of it begin where its prefill ended.
struct BranchPoint {
  std::vector<int32_t> blocks;  // one reference each; the last one may be partly filled
  int32_t state_slot = -1;
  std::shared_ptr<const std::vector<float>> logits;  // of the prompt's last token
};

// What the samples of a request share. Of the engine's step thread.
struct RequestState {
  RequestId id = 0;
  Request request;
  uint64_t seed = 0;
  std::optional<BranchPoint> branch;
  std::vector<sampling::SampledToken> prompt_logprobs;  // so far, of the tokens from the second on
  Sequence* leader = nullptr;                           // the sample whose prefill will make the branch point
  int32_t num_unbranched = 0;  // waiting samples that have not begun: what a branch point is kept for
};

class OutputStream;

enum class SequenceStatus { kWaiting, kRunning, kFinished };

struct Sequence {
  std::shared_ptr<RequestState> request;
  std::shared_ptr<OutputStream> output;
  uint32_t sample_idx = 0;
  uint64_t arrival_order = 0;  // position in the queue among equal priorities, kept over preemptions

  SequenceStatus status = SequenceStatus::kWaiting;
  std::vector<int32_t> tokens;  // the prompt, then the completion
  int64_t prompt_len = 0;
  int64_t max_len = 0;  // tokens at which the completion ends with kLength

  // In the caches, while running.
  int64_t num_computed = 0;  // leading tokens whose keys, values and state are there
  std::vector<int32_t> blocks;
  int32_t state_slot = -1;
  std::vector<int64_t> snapshot_positions;  // where the prefix cache wants the state; ascending
  std::shared_ptr<const std::vector<float>> first_logits;  // of the branch point it began from, until used
  bool has_begun = false;                                  // was running before

  sampling::TokenHistory history;  // kept where the request has penalties
  ThinkingState thinking;
  std::optional<grammar::Matcher> matcher;  // where the request has a grammar

  int32_t cached_tokens = 0;  // of the prompt, taken from the prefix cache when it first ran
  Clock::time_point arrival;
  Clock::time_point scheduled;   // first step that worked on it
  Clock::time_point last_token;  // arrival before the first

  Sequence(std::shared_ptr<RequestState> state, ThinkingState thinking_state)
      : request(std::move(state)), thinking(std::move(thinking_state)) {}

  [[nodiscard]] int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  [[nodiscard]] int64_t completion_len() const { return num_tokens() - prompt_len; }
  [[nodiscard]] std::span<const int32_t> prompt() const {
    return {tokens.data(), static_cast<size_t>(prompt_len)};
  }
  // Prompt tokens pass in chunks through the prefill kernels. Completion tokens pass one at a time through
  // the decode kernels, also when a preempted sequence computes them again: only so has it the same bits as
  // if it had not been preempted.
  [[nodiscard]] bool is_prefilling() const { return num_computed < prompt_len; }
  // The order of service: priority, then arrival.
  [[nodiscard]] bool is_before(const Sequence& other) const {
    const int32_t a = request->request.priority;
    const int32_t b = other.request->request.priority;
    return a != b ? a < b : arrival_order < other.arrival_order;
  }
};

}  // namespace nemoforge::engine
