// What every client of an OpenAI endpoint needs: its address, its models, and its answers, which nobody
// vouches for.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "io/json.h"

namespace nemoforge::endpoint {

// `url` without slashes at its end and without /v1.
[[nodiscard]] std::string server_root(std::string url);

// The member `key`, or null where `json` is no object or has none.
[[nodiscard]] const io::Json& member(const io::Json& json, const char* key);
// Empty where it is no string.
[[nodiscard]] std::string string_member(const io::Json& json, const char* key);

// What a body of another status than 200 says, in at most some hundred characters.
[[nodiscard]] std::string api_error_text(const std::string& body);

// What a server says of a model in GET /models. The hashes are those of our own server; empty from others.
struct ListedModel {
  std::string id;
  std::string checkpoint_hash;
  std::string chat_template_hash;
  std::string adapter_hash;
};

// The models in the body of GET /models, at least one. kInvalidData.
[[nodiscard]] Result<std::vector<ListedModel>> parse_model_list(const std::string& body);

// The id of the first model of the server at `root`. kUnavailable where it does not answer well, kInvalidData
// where it lists none.
[[nodiscard]] Result<std::string> first_model(const std::string& root, const std::string& api_key,
                                              double timeout_s);

}  // namespace nemoforge::endpoint
