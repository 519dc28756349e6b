#include "endpoint/openai_api.h"

#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "endpoint/http_client.h"
#include "text/utf8.h"

namespace nemoforge::endpoint {
namespace {

using io::Json;

constexpr size_t kMaxErrorTextBytes = 300;

}  // namespace

std::string server_root(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  if (url.ends_with("/v1")) url.resize(url.size() - 3);
  return url;
}

const Json& member(const Json& json, const char* key) {
  static const Json null;
  if (!json.is_object()) return null;
  const auto entry = json.find(key);
  return entry == json.end() ? null : *entry;
}

std::string string_member(const Json& json, const char* key) {
  const Json& value = member(json, key);
  return value.is_string() ? value.get<std::string>() : "";
}

std::string api_error_text(const std::string& body) {
  std::string text = body;
  if (const auto json = io::parse_json(body)) {
    const Json& failure = member(*json, "error");
    std::string message = string_member(failure.is_object() ? failure : *json, "message");
    if (message.empty() && failure.is_string()) message = failure.get<std::string>();
    if (!message.empty()) text = message;
  }
  if (text.size() > kMaxErrorTextBytes) text = text.substr(0, kMaxErrorTextBytes) + "...";
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  return text::repair_utf8(text);
}

Result<std::vector<ListedModel>> parse_model_list(const std::string& body) {
  NF_TRY(const Json json, io::parse_json(body));
  std::vector<ListedModel> models;
  const Json& data = member(json, "data");
  for (const Json& entry : data.is_array() ? data : Json::array()) {
    ListedModel model = {string_member(entry, "id"), string_member(entry, "checkpoint_hash"),
                         string_member(entry, "chat_template_hash"), string_member(entry, "adapter_hash")};
    if (!model.id.empty()) models.push_back(std::move(model));
  }
  if (models.empty()) {
    return error(ErrorCode::kInvalidData, "the list of models is empty: " + api_error_text(body));
  }
  return models;
}

Result<std::string> first_model(const std::string& root, const std::string& api_key, double timeout_s) {
  HttpClient client;
  client.start(0, {root + "/v1/models", {}, api_key, timeout_s});
  std::vector<HttpResponse> responses;
  while (responses.empty()) responses = client.wait(1);
  if (responses[0].status != 200) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("{}/v1/models: status {} {}", root, responses[0].status, responses[0].error));
  }
  const auto models = parse_model_list(responses[0].body);
  if (!models) {
    return error(ErrorCode::kInvalidData, root + "/v1/models lists no model", "name one with --model");
  }
  return models->front().id;
}

}  // namespace nemoforge::endpoint
