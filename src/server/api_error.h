// Errors as the API words them: OpenAI's nested object, with vLLM's types and integer codes.
#pragma once

#include <string>

#include "base/result.h"
#include "io/json.h"
#include "server/http_exchange.h"

namespace nemoforge::server {

struct ApiError {
  int status = 400;
  std::string message;
  std::string param;  // the parameter at fault; empty: none
};

// The one table from error codes to HTTP. Messages about a parameter begin with its name (as those of
// sampling::validate do); that name becomes `param`.
[[nodiscard]] ApiError to_api_error(const Error& error);

// {"error": {"message", "type", "param", "code"}}
[[nodiscard]] io::Json error_json(const ApiError& error);
// With Retry-After where another try may help, closing the connection where the request was not read.
[[nodiscard]] HttpResponse error_response(const ApiError& error);

}  // namespace nemoforge::server
