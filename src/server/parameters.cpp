#include "server/parameters.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace nemoforge::server {
namespace {

constexpr size_t kMaxStopStrings = 64;
constexpr size_t kMaxStopBytes = 4096;  // of one of them
constexpr size_t kMaxTokenIds = 4096;   // of a list of ids or biases
constexpr int32_t kMaxCompletions = 128;
constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr std::array kEfforts = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};

tl::unexpected<Error> reject(std::string message) {
  return error(ErrorCode::kInvalidArgument, std::move(message));
}

tl::unexpected<Error> wrong_type(std::string_view name, const char* expected, const io::Json& value) {
  return reject(
      fmt::format("{} must be {}, got {}.", name, expected,
                  value.is_number() ? "a number" : fmt::format("a value of type {}", value.type_name())));
}

Status read(const io::Json& value, std::string_view name, bool& out) {
  if (!value.is_boolean()) return wrong_type(name, "a boolean", value);
  out = value.get<bool>();
  return {};
}

Status read(const io::Json& value, std::string_view name, std::string& out) {
  if (!value.is_string()) return wrong_type(name, "a string", value);
  out = value.get<std::string>();
  return {};
}

Status read(const io::Json& value, std::string_view name, float& out) {
  if (!value.is_number()) return wrong_type(name, "a number", value);
  const auto number = value.get<double>();
  if (!std::isfinite(number) || std::abs(number) > std::numeric_limits<float>::max())
    return reject(fmt::format("{} must be finite, got {}.", name, number));
  out = static_cast<float>(number);
  return {};
}

// Whole numbers written with a decimal point count.
Status read_integer(const io::Json& value, std::string_view name, int64_t min, int64_t max, int64_t& out) {
  const bool is_whole = value.is_number_integer() ||
                        (value.is_number_float() && std::floor(value.get<double>()) == value.get<double>());
  if (!is_whole) return wrong_type(name, "an integer", value);
  const auto number = value.get<double>();
  if (number < static_cast<double>(min) || number > static_cast<double>(max)) {
    return max >= kMaxInt && number < static_cast<double>(min)
               ? reject(fmt::format("{} must be at least {}, got {}.", name, min, value.dump()))
               : reject(fmt::format("{} must be in [{}, {}], got {}.", name, min, max, value.dump()));
  }
  out = value.is_number_float() ? static_cast<int64_t>(number) : value.get<int64_t>();
  return {};
}

template <typename Number>
Status read(const io::Json& value, std::string_view name, int32_t min, int32_t max, Number& out) {
  int64_t number = 0;
  NF_RETURN_IF_ERROR(read_integer(value, name, min, max, number));
  out = static_cast<int32_t>(number);
  return {};
}

template <typename Value>
Status read_optional(const io::Json& value, std::string_view name, std::optional<Value>& out) {
  Value read_value{};
  NF_RETURN_IF_ERROR(read(value, name, read_value));
  out = std::move(read_value);
  return {};
}

// Any 64-bit integer, signed or not, is a seed of its own.
Status read_seed(const io::Json& value, std::string_view name, Parameters& out) {
  if (!value.is_number_integer()) return wrong_type(name, "an integer", value);
  out.sampling.seed =
      value.is_number_unsigned() ? value.get<uint64_t>() : static_cast<uint64_t>(value.get<int64_t>());
  return {};
}

Status read_ids(const io::Json& value, std::string_view name, std::vector<int32_t>& out) {
  if (!value.is_array()) return wrong_type(name, "a list of token ids", value);
  if (value.size() > kMaxTokenIds)
    return reject(
        fmt::format("{} must hold at most {} token ids, got {}.", name, kMaxTokenIds, value.size()));
  for (const auto& item : value) {
    NF_RETURN_IF_ERROR(read(item, name, 0, kMaxInt, out.emplace_back()));
  }
  return {};
}

Status read_stop(const io::Json& value, std::string_view name, Parameters& out) {
  const io::Json list = value.is_string() ? io::Json::array({value}) : value;
  if (!list.is_array()) return wrong_type(name, "a string or a list of strings", value);
  if (list.size() > kMaxStopStrings)
    return reject(
        fmt::format("{} must hold at most {} strings, got {}.", name, kMaxStopStrings, list.size()));
  for (const auto& item : list) {
    std::string& text = out.stop.emplace_back();
    NF_RETURN_IF_ERROR(read(item, name, text));
    if (text.size() > kMaxStopBytes)
      return reject(fmt::format("{} must hold strings of at most {} bytes.", name, kMaxStopBytes));
  }
  return {};
}

Status read_logit_bias(const io::Json& value, std::string_view name, Parameters& out) {
  if (!value.is_object()) return wrong_type(name, "an object", value);
  if (value.size() > kMaxTokenIds)
    return reject(fmt::format("{} must hold at most {} entries, got {}.", name, kMaxTokenIds, value.size()));
  for (const auto& [key, bias] : value.items()) {
    auto& [id, amount] = out.sampling.logit_bias.emplace_back();
    const auto [end, failure] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (failure != std::errc() || end != key.data() + key.size())
      return reject(fmt::format("{} must have token ids as keys, got '{}'.", name, key));
    NF_RETURN_IF_ERROR(read(bias, name, amount));
  }
  return {};
}

Status read_budget(const io::Json& value, std::string_view name, Parameters& out) {
  int32_t tokens = 0;
  NF_RETURN_IF_ERROR(read(value, name, -1, kMaxInt, tokens));
  if (tokens >= 0) out.thinking_token_budget = tokens;  // -1: no budget
  return {};
}

Status read_effort(const io::Json& value, std::string_view name, Parameters& out) {
  NF_RETURN_IF_ERROR(read_optional(value, name, out.reasoning_effort));
  for (const char* effort : kEfforts) {
    if (*out.reasoning_effort == effort) return {};
  }
  return reject(
      fmt::format("{} must be one of {}, got '{}'.", name, fmt::join(kEfforts, ", "), *out.reasoning_effort));
}

Status read_stream_options(const io::Json& value, std::string_view name, Parameters& out) {
  if (!value.is_object()) return wrong_type(name, "an object", value);
  const auto read_flag = [&](const char* key, bool& flag) -> Status {
    const auto found = value.find(key);
    if (found == value.end() || found->is_null()) return {};
    return read(*found, fmt::format("{}.{}", name, key), flag);
  };
  NF_RETURN_IF_ERROR(read_flag("include_usage", out.include_usage));
  return read_flag("continuous_usage_stats", out.continuous_usage);
}

Status read_nvext(const io::Json& value, std::string_view name, Parameters& out) {
  if (!value.is_object()) return wrong_type(name, "an object", value);
  const auto found = value.find("max_thinking_tokens");
  if (found == value.end() || found->is_null()) return {};
  return read_budget(*found, fmt::format("{}.max_thinking_tokens", name), out);
}

// Parameters that would change the output in ways we do not have are refused unless they ask for nothing.
Status refuse_true(const io::Json& value, std::string_view name, Parameters& /*out*/) {
  bool wanted = false;
  NF_RETURN_IF_ERROR(read(value, name, wanted));
  return wanted ? error(ErrorCode::kUnsupported, fmt::format("{} is not supported.", name)) : Status{};
}

Status refuse_text(const io::Json& value, std::string_view name, Parameters& /*out*/) {
  std::string text;
  NF_RETURN_IF_ERROR(read(value, name, text));
  return text.empty() ? Status{} : error(ErrorCode::kUnsupported, fmt::format("{} is not supported.", name));
}

// Of parameters that restrict the output in ways we do not have.
Status refuse_given(const io::Json& value, std::string_view name, Parameters& /*out*/) {
  const bool asks_for_nothing = value.is_structured() ? value.empty() : value == "" || value == "none";
  return asks_for_nothing ? Status{}
                          : error(ErrorCode::kUnsupported, fmt::format("{} is not supported.", name));
}

// What the chat template reads.
Status check_object(const io::Json& value, std::string_view name, Parameters& /*out*/) {
  if (!value.is_object()) return wrong_type(name, "an object", value);
  return {};
}

constexpr unsigned kChatOnly = 1;
constexpr unsigned kCompletionsOnly = 2;
constexpr unsigned kBoth = 3;

struct Row {
  std::string_view name;
  unsigned endpoints;
  Status (*read)(const io::Json& value, std::string_view name, Parameters& out);
};

// In the order in which aliases override each other: the last one wins. Ranges of sampling parameters are
// checked by sampling::validate, limits that depend on the model by the engine.
constexpr Row kTable[] = {
    {"model", kBoth, [](const auto& v, auto name, auto& out) { return read(v, name, out.model); }},
    {"stream", kBoth, [](const auto& v, auto name, auto& out) { return read(v, name, out.stream); }},
    {"stream_options", kBoth, read_stream_options},
    {"max_tokens", kCompletionsOnly,
     [](const auto& v, auto name, auto& out) { return read(v, name, 0, kMaxInt, out.max_tokens); }},
    {"max_tokens", kChatOnly,
     [](const auto& v, auto name, auto& out) { return read(v, name, 1, kMaxInt, out.max_tokens); }},
    {"max_completion_tokens", kChatOnly,
     [](const auto& v, auto name, auto& out) { return read(v, name, 1, kMaxInt, out.max_tokens); }},
    {"n", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, 1, kMaxCompletions, out.n); }},
    {"best_of", kCompletionsOnly,
     [](const auto& v, auto name, auto& out) { return read(v, name, 1, kMaxCompletions, out.best_of); }},
    {"priority", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, -kMaxInt, kMaxInt, out.priority); }},
    {"temperature", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.sampling.temperature); }},
    {"top_p", kBoth, [](const auto& v, auto name, auto& out) { return read(v, name, out.sampling.top_p); }},
    {"top_k", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, -1, kMaxInt, out.sampling.top_k); }},
    {"min_p", kBoth, [](const auto& v, auto name, auto& out) { return read(v, name, out.sampling.min_p); }},
    {"repeat_penalty", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.sampling.repetition_penalty); }},
    {"repetition_penalty", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.sampling.repetition_penalty); }},
    {"presence_penalty", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.sampling.presence_penalty); }},
    {"frequency_penalty", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.sampling.frequency_penalty); }},
    {"logit_bias", kBoth, read_logit_bias},
    {"allowed_token_ids", kBoth,
     [](const auto& v, auto name, auto& out) { return read_ids(v, name, out.sampling.allowed_token_ids); }},
    {"seed", kBoth, read_seed},
    {"min_tokens", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, 0, kMaxInt, out.sampling.min_tokens); }},
    {"ignore_eos", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.sampling.ignore_eos); }},
    {"stop", kBoth, read_stop},
    {"stop_token_ids", kBoth,
     [](const auto& v, auto name, auto& out) { return read_ids(v, name, out.sampling.stop_token_ids); }},
    {"include_stop_str_in_output", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.include_stop_str_in_output); }},
    {"skip_special_tokens", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.skip_special_tokens); }},
    {"logprobs", kChatOnly,
     [](const auto& v, auto name, auto& out) { return read_optional(v, name, out.wants_logprobs); }},
    {"top_logprobs", kChatOnly,
     [](const auto& v, auto name, auto& out) {
       return read(v, name, 0, sampling::kMaxTopLogprobs, out.sampling.top_logprobs);
     }},
    {"logprobs", kCompletionsOnly,
     [](const auto& v, auto name, auto& out) {
       return read(v, name, 0, sampling::kMaxTopLogprobs, out.sampling.top_logprobs);
     }},
    {"prompt_logprobs", kBoth,
     [](const auto& v, auto name, auto& out) {
       return read(v, name, 0, sampling::kMaxTopLogprobs, out.prompt_logprobs);
     }},
    {"return_token_ids", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.return_token_ids); }},
    {"return_tokens_as_token_ids", kBoth,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.return_tokens_as_token_ids); }},
    {"truncate_prompt_tokens", kBoth,
     [](const auto& v, auto name, auto& out) {
       return read(v, name, -1, kMaxInt, out.truncate_prompt_tokens);
     }},
    {"add_special_tokens", kBoth,
     [](const auto& v, auto name, auto& out) { return read_optional(v, name, out.add_special_tokens); }},
    {"reasoning_effort", kChatOnly, read_effort},
    {"nvext", kBoth, read_nvext},
    {"reasoning_budget", kBoth, read_budget},
    {"thinking_budget_tokens", kBoth, read_budget},
    {"reasoning_budget_tokens", kBoth, read_budget},
    {"thinking_token_budget", kBoth, read_budget},
    {"include_reasoning", kChatOnly,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.include_reasoning); }},
    {"separate_reasoning", kChatOnly,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.separate_reasoning); }},
    {"parallel_tool_calls", kChatOnly,
     [](const auto& v, auto name, auto& out) { return read(v, name, out.parallel_tool_calls); }},
    {"echo", kCompletionsOnly, [](const auto& v, auto name, auto& out) { return read(v, name, out.echo); }},
    {"echo", kChatOnly, refuse_true},
    {"continue_final_message", kChatOnly, refuse_true},
    {"use_beam_search", kBoth, refuse_true},
    {"suffix", kCompletionsOnly, refuse_text},
    {"chat_template", kChatOnly, refuse_text},
    {"chat_template_kwargs", kChatOnly, check_object},
    {"bad_words", kBoth, refuse_given},
    {"logprob_token_ids", kBoth, refuse_given},
    {"stop_regex", kBoth, refuse_given},
    {"functions", kChatOnly, refuse_given},
    {"function_call", kChatOnly, refuse_given},
};

// Of fields that are read elsewhere; for parameter_at_fault.
constexpr std::string_view kOtherNames[] = {"messages",       "prompt",          "tools",
                                            "tool_choice",    "response_format", "structured_outputs",
                                            "guided_json",    "guided_regex",    "guided_choice",
                                            "guided_grammar", "documents",       "add_generation_prompt",
                                            "tokens",         "lora_name",       "lora_path"};

Status check_together(const Parameters& out, Endpoint endpoint) {
  if (endpoint == Endpoint::kChat && out.sampling.top_logprobs.value_or(0) > 0 &&
      !out.wants_logprobs.value_or(false))
    return reject("top_logprobs needs logprobs to be true.");
  if (out.best_of && *out.best_of != out.n)
    return error(ErrorCode::kUnsupported,
                 fmt::format("best_of must equal n ({}), got {}.", out.n, *out.best_of));
  if (out.stream && out.prompt_logprobs)
    return error(ErrorCode::kUnsupported, "prompt_logprobs is not supported together with stream.");
  return {};
}

}  // namespace

Result<Parameters> read_parameters(const io::Json& body, Endpoint endpoint) {
  if (!body.is_object()) return reject("the body must be a JSON object.");
  const unsigned wanted = endpoint == Endpoint::kChat ? kChatOnly : kCompletionsOnly;
  Parameters out;
  for (const Row& row : kTable) {
    if ((row.endpoints & wanted) == 0) continue;
    const auto found = body.find(std::string(row.name));
    if (found == body.end() || found->is_null()) continue;
    NF_RETURN_IF_ERROR(row.read(*found, row.name, out));
  }
  NF_RETURN_IF_ERROR(check_together(out, endpoint));
  if (endpoint == Endpoint::kChat) {
    if (out.wants_logprobs.value_or(false)) {
      out.sampling.top_logprobs = out.sampling.top_logprobs.value_or(0);
    } else {
      out.sampling.top_logprobs.reset();
    }
  }
  return out;
}

std::string parameter_at_fault(std::string_view message) {
  const size_t end = message.find_first_not_of("abcdefghijklmnopqrstuvwxyz_.0123456789");
  const std::string_view word = message.substr(0, end);
  const std::string_view name = word.substr(0, word.find('.'));
  for (const Row& row : kTable) {
    if (row.name == name) return std::string(word);
  }
  for (const std::string_view other : kOtherNames) {
    if (other == name) return std::string(word);
  }
  return {};
}

}  // namespace nemoforge::server
