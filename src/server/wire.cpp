#include "server/wire.h"

#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/rng.h"

namespace nemoforge::server {
namespace {

int64_t count_code_points(std::string_view utf8) {
  int64_t count = 0;
  for (const char c : utf8) count += (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  return count;
}

io::Json token_json(int32_t token_id, float logprob, const TokenNames& names) {
  io::Json bytes = io::Json::array();
  for (const char c : names.tokenizer->token_bytes(token_id)) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", names(token_id)}, {"logprob", logprob}, {"bytes", std::move(bytes)}};
}

}  // namespace

std::string TokenNames::operator()(int32_t token_id) const {
  if (as_ids) return fmt::format("token_id:{}", token_id);
  return tokenizer->decode(std::span(&token_id, 1));
}

io::Json chat_logprobs(std::span<const sampling::SampledToken> tokens, const TokenNames& names) {
  io::Json content = io::Json::array();
  for (const sampling::SampledToken& token : tokens) {
    io::Json entry = token_json(token.token_id, token.logprob, names);
    io::Json top = io::Json::array();
    for (const auto& other : token.top_logprobs)
      top.push_back(token_json(other.token_id, other.logprob, names));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}};
}

CompletionLogprobs::Entry& CompletionLogprobs::append(int32_t token_id) {
  Entry& entry = entries_.emplace_back();
  entry.text = names_(token_id);
  entry.offset = offset_;
  offset_ += count_code_points(entry.text);
  return entry;
}

void CompletionLogprobs::add(const sampling::SampledToken& token) {
  Entry& entry = append(token.token_id);
  entry.logprob = token.logprob;
  for (const auto& other : token.top_logprobs) entry.top.emplace_back(names_(other.token_id), other.logprob);
  entry.top.emplace_back(entry.text, token.logprob);
}

void CompletionLogprobs::add_unscored(int32_t token_id) {
  append(token_id);
}

io::Json CompletionLogprobs::take() {
  io::Json tokens = io::Json::array();
  io::Json token_logprobs = io::Json::array();
  io::Json top_logprobs = io::Json::array();
  io::Json text_offset = io::Json::array();
  for (const Entry& entry : std::exchange(entries_, {})) {
    tokens.push_back(entry.text);
    text_offset.push_back(entry.offset);
    token_logprobs.push_back(entry.logprob ? io::Json(*entry.logprob) : io::Json(nullptr));
    // Of tokens with equal texts the most probable stands.
    io::Json top = io::Json::object();
    for (const auto& [text, logprob] : entry.top) top.emplace(text, logprob);
    top_logprobs.push_back(entry.logprob ? std::move(top) : io::Json(nullptr));
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(token_logprobs)},
          {"top_logprobs", std::move(top_logprobs)},
          {"text_offset", std::move(text_offset)}};
}

io::Json prompt_logprobs_json(std::span<const sampling::SampledToken> scores, const TokenNames& names) {
  io::Json list = io::Json::array({nullptr});
  for (const sampling::SampledToken& score : scores) {
    io::Json entry = io::Json::object();
    const auto add = [&](int32_t token_id, float logprob) {
      entry.emplace(std::to_string(token_id),
                    io::Json{{"logprob", logprob},
                             {"decoded_token", names.tokenizer->decode(std::span(&token_id, 1))}});
    };
    add(score.token_id, score.logprob);
    for (const auto& other : score.top_logprobs) add(other.token_id, other.logprob);
    list.push_back(std::move(entry));
  }
  return list;
}

io::Json UsageTotal::json() const {
  return {{"prompt_tokens", prompt_tokens_},
          {"total_tokens", prompt_tokens_ + completion_tokens_},
          {"completion_tokens", completion_tokens_},
          {"prompt_tokens_details", {{"cached_tokens", cached_tokens_}}},
          {"completion_tokens_details", {{"reasoning_tokens", reasoning_tokens_}}}};
}

io::Json stop_reason_json(const engine::Finish& finish) {
  if (const auto* id = std::get_if<int32_t>(&finish.stop_reason)) return *id;
  if (const auto* text = std::get_if<std::string>(&finish.stop_reason)) return *text;
  return nullptr;
}

std::string sse_event(std::string_view data) {
  return fmt::format("data: {}\n\n", data);
}

std::string random_id() {
  return fmt::format("{:016x}{:016x}", secret_seed(), secret_seed());
}

}  // namespace nemoforge::server
