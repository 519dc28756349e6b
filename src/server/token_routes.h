// The bodies of POST /tokenize and /detokenize.
#pragma once

#include "base/result.h"
#include "io/json.h"
#include "server/completion_request.h"

namespace nemoforge::server {

// {"count", "max_model_len", "tokens", "token_strs"} of a `prompt` or of `messages`.
[[nodiscard]] Result<io::Json> tokenize(const io::Json& body, const ServedModel& served);
// {"prompt"} of `tokens`.
[[nodiscard]] Result<io::Json> detokenize(const io::Json& body, const ServedModel& served);

}  // namespace nemoforge::server
