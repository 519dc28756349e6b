// The parameters of a completion, as they stand in a request's body: one table of names, types and ranges
// (parameters.cpp).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/json.h"
#include "sampling/sampling_params.h"

namespace nemoforge::server {

enum class Endpoint { kChat, kCompletions };

struct Parameters {
  std::string model;  // empty: the served one
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  std::optional<int32_t> max_tokens;
  int32_t n = 1;
  int32_t priority = 0;
  sampling::SamplingParams sampling;  // with top_logprobs
  std::vector<std::string> stop;
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;
  bool return_token_ids = false;
  bool return_tokens_as_token_ids = false;
  std::optional<int32_t> prompt_logprobs;
  std::optional<int32_t> truncate_prompt_tokens;  // to the last so many
  std::optional<bool> add_special_tokens;
  std::optional<int32_t> thinking_token_budget;
  std::optional<std::string> reasoning_effort;
  bool include_reasoning = true;   // false: thoughts are left out
  bool separate_reasoning = true;  // false: thoughts stay in the content, with their tags
  bool echo = false;
  bool parallel_tool_calls = true;
  std::optional<bool> wants_logprobs;  // chat: logprobs
  std::optional<int32_t> best_of;
};

// Reads every parameter of the endpoint that the body (an object) has. Null is absent; names that the table
// lacks are ignored, as the ecosystem does. kInvalidArgument beginning with the parameter's name for a wrong
// type or a value out of range.
[[nodiscard]] Result<Parameters> read_parameters(const io::Json& body, Endpoint endpoint);

// The name of a parameter (dotted where it is nested) that `message` begins with; empty where it begins with
// something else.
[[nodiscard]] std::string parameter_at_fault(std::string_view message);

}  // namespace nemoforge::server
