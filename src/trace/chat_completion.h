// The OpenAI chat API as far as traces need it: request bodies, and responses of untrusted servers.
#pragma once

#include <string>

#include "base/result.h"
#include "trace/trace_source.h"

namespace nemoforge::trace {

// What OpenAI's own API does not know and vLLM, SGLang and nemoforge do: token ids and logprobs as sampled,
// the thinking switch, sampling beyond top_p, the reasoning of earlier turns. A server that refuses them is
// asked without.
enum class ApiExtensions { kAsked, kLeftOut };

// The body of POST /chat/completions.
[[nodiscard]] std::string chat_completion_body(const std::string& model, const TraceRequest& request,
                                               const SamplingSettings& settings, ApiExtensions extensions);

// The answer in the body of a response with status 200. The reasoning is taken from reasoning_content or
// reasoning, or, where the server did not split the text, from before </think>. kInvalidData where the body
// is not a chat completion.
[[nodiscard]] Result<SampledAnswer> parse_chat_completion(const std::string& body);

}  // namespace nemoforge::trace
