#include "sampling/sampling_params.h"

#include <cmath>
#include <span>
#include <string_view>

#include <fmt/format.h>

namespace nemoforge::sampling {
namespace {

Status reject(std::string message) {
  return error(ErrorCode::kInvalidArgument, std::move(message));
}

// Not one of them holds for NaN, which is thereby rejected.
Status validate_ranges(const SamplingParams& p) {
  if (!(p.temperature >= 0.0F) || !std::isfinite(p.temperature)) {
    return reject(fmt::format("temperature must be non-negative, got {}.", p.temperature));
  }
  if (!(p.top_p > 0.0F && p.top_p <= 1.0F)) {
    return reject(fmt::format("top_p must be in (0, 1], got {}.", p.top_p));
  }
  if (p.top_k < -1) {
    return reject(fmt::format("top_k must be 0 (disable), or at least 1, got {}.", p.top_k));
  }
  if (!(p.min_p >= 0.0F && p.min_p <= 1.0F)) {
    return reject(fmt::format("min_p must be in [0, 1], got {}.", p.min_p));
  }
  if (!(p.repetition_penalty > 0.0F) || !std::isfinite(p.repetition_penalty)) {
    return reject(fmt::format("repetition_penalty must be greater than zero, got {}.", p.repetition_penalty));
  }
  if (!(p.presence_penalty >= -2.0F && p.presence_penalty <= 2.0F)) {
    return reject(fmt::format("presence_penalty must be in [-2, 2], got {}.", p.presence_penalty));
  }
  if (!(p.frequency_penalty >= -2.0F && p.frequency_penalty <= 2.0F)) {
    return reject(fmt::format("frequency_penalty must be in [-2, 2], got {}.", p.frequency_penalty));
  }
  if (p.top_logprobs && (*p.top_logprobs < 0 || *p.top_logprobs > kMaxTopLogprobs)) {
    return reject(fmt::format("top_logprobs must be in [0, {}], got {}.", kMaxTopLogprobs, *p.top_logprobs));
  }
  if (p.min_tokens < 0) {
    return reject(fmt::format("min_tokens must be greater than or equal to 0, got {}.", p.min_tokens));
  }
  return {};
}

Status validate_ids(std::string_view name, std::span<const int32_t> ids, int64_t vocab_size) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size) {
      return reject(fmt::format("{} contains token id {}, which is out of vocabulary (size {}).", name, id,
                                vocab_size));
    }
  }
  return {};
}

}  // namespace

bool SamplingParams::is_greedy() const {
  return temperature < kGreedyTemperature;
}

Status validate(const SamplingParams& params, int64_t vocab_size) {
  NF_RETURN_IF_ERROR(validate_ranges(params));
  for (const auto& [id, bias] : params.logit_bias) {
    NF_RETURN_IF_ERROR(validate_ids("logit_bias", std::span(&id, 1), vocab_size));
    if (!(bias >= -100.0F && bias <= 100.0F)) {
      return reject(fmt::format("logit_bias must be in [-100, 100], got {} for token id {}.", bias, id));
    }
  }
  NF_RETURN_IF_ERROR(validate_ids("allowed_token_ids", params.allowed_token_ids, vocab_size));
  NF_RETURN_IF_ERROR(validate_ids("bad_token_ids", params.bad_token_ids, vocab_size));
  return validate_ids("stop_token_ids", params.stop_token_ids, vocab_size);
}

}  // namespace nemoforge::sampling
