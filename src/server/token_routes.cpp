#include "server/token_routes.h"

#include <limits>

#include <nlohmann/json.hpp>

namespace nemoforge::server {
namespace {

Result<bool> read_flag(const io::Json& body, const char* name, bool fallback) {
  const auto found = body.find(name);
  if (found == body.end() || found->is_null()) return fallback;
  if (!found->is_boolean())
    return error(ErrorCode::kInvalidArgument, std::string(name) + " must be a boolean.");
  return found->get<bool>();
}

}  // namespace

Result<io::Json> tokenize(const io::Json& body, const ServedModel& served) {
  std::vector<int32_t> ids;
  if (body.contains("messages")) {
    NF_TRY(const Parameters parameters, read_parameters(body, Endpoint::kChat));
    NF_TRY(const auto adapter, served.registry->find(parameters.model));
    NF_TRY(const std::string prompt, render_chat(body, parameters, served));
    ids = served.tokenizer->encode(prompt, parameters.add_special_tokens.value_or(false));
  } else {
    NF_TRY(const Parameters parameters, read_parameters(body, Endpoint::kCompletions));
    NF_TRY(const auto adapter, served.registry->find(parameters.model));
    const auto prompt = body.find("prompt");
    if (prompt == body.end() || !prompt->is_string())
      return error(ErrorCode::kInvalidArgument, "prompt must be a string.");
    ids = served.tokenizer->encode(prompt->get_ref<const std::string&>(),
                                   parameters.add_special_tokens.value_or(true));
  }
  NF_TRY(const bool with_texts, read_flag(body, "return_token_strs", false));
  io::Json texts;
  if (with_texts) {
    texts = io::Json::array();
    for (const int32_t id : ids) texts.push_back(std::string(served.tokenizer->token(id)));
  }
  return io::Json{{"count", ids.size()},
                  {"max_model_len", served.max_model_len},
                  {"tokens", ids},
                  {"token_strs", std::move(texts)}};
}

Result<io::Json> detokenize(const io::Json& body, const ServedModel& served) {
  const auto tokens = body.find("tokens");
  if (tokens == body.end() || !tokens->is_array())
    return error(ErrorCode::kInvalidArgument, "tokens must be a list of token ids.");
  std::vector<int32_t> ids;
  for (const auto& item : *tokens) {
    if (!item.is_number_integer()) return error(ErrorCode::kInvalidArgument, "tokens must hold integers.");
    const auto id = item.get<int64_t>();
    if (id < 0 || id >= served.tokenizer->vocab_size())
      return error(ErrorCode::kInvalidArgument,
                   "tokens contains token id " + std::to_string(id) + ", which is out of vocabulary.");
    ids.push_back(static_cast<int32_t>(id));
  }
  return io::Json{{"prompt", served.tokenizer->decode(ids)}};
}

}  // namespace nemoforge::server
