// Bodies of requests: whatever they hold is a request or a clear error, never a crash.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "server/api_error.h"
#include "server/completion_request.h"
#include "server/token_routes.h"

namespace {

using namespace nemoforge;

struct World {
  World()
      : tokenizer(text::Tokenizer::load(NEMOFORGE_SOURCE_DIR "/models/demo")),
        chat_template(text::ChatTemplate::load(NEMOFORGE_SOURCE_DIR "/models/demo")),
        registry({"demo", "models/demo", "", "", 8192},
                 [](const std::string&) -> Result<server::LoadedAdapter> {
                   return error(ErrorCode::kNotFound, "no adapter");
                 }) {
    NF_CHECK(tokenizer && chat_template) << "the demo checkpoint is missing";
  }
  Result<text::Tokenizer> tokenizer;
  Result<text::ChatTemplate> chat_template;
  server::ModelRegistry registry;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  const server::ServedModel served{&*world.tokenizer, &*world.chat_template, &world.registry, 8192};
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto body = server::parse_body(text);
  if (!body) {
    NF_CHECK(!body.error().message.empty());
    return 0;
  }
  for (const server::Endpoint endpoint : {server::Endpoint::kChat, server::Endpoint::kCompletions}) {
    const auto request = server::read_completion_request(*body, endpoint, served);
    if (request) {
      NF_CHECK(!request->prompts.empty() && request->num_choices() > 0);
      (void)request->engine_request(0);
    } else {
      const int status = server::to_api_error(request.error()).status;
      NF_CHECK(status == 400 || status == 404) << request.error().message;
    }
  }
  (void)server::tokenize(*body, served);
  (void)server::detokenize(*body, served);
  return 0;
}
