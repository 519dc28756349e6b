#include "engine/emit.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace nemoforge::engine {
namespace {

bool contains(std::span<const int32_t> ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Emission emit(Sequence& sequence, sampling::SampledToken token, std::span<const int32_t> eos_token_ids) {
  const sampling::SamplingParams& params = sequence.request->request.sampling;
  const int32_t id = token.token_id;
  sequence.tokens.push_back(id);
  if (params.has_penalties()) sequence.history.add_completion(id);

  Emission emission;
  const bool was_in_thought = sequence.thinking.in_thought();
  emission.is_reasoning = sequence.thinking.push(id);
  // Within a thought and at its end the grammar has not begun.
  if (sequence.matcher && !was_in_thought && !sequence.thinking.in_thought()) {
    NF_CHECK(sequence.matcher->accept(id).has_value());
  }
  emission.token = std::move(token);
  if (sequence.completion_len() >= params.min_tokens) {
    emission.is_stop_token = contains(params.stop_token_ids, id);
    emission.is_eos = !emission.is_stop_token && !params.ignore_eos && contains(eos_token_ids, id);
  }
  if (emission.is_stop_token || emission.is_eos) {
    emission.finish = FinishReason::kStop;
  } else if (sequence.num_tokens() >= sequence.max_len) {
    emission.finish = FinishReason::kLength;
  }
  return emission;
}

}  // namespace nemoforge::engine
