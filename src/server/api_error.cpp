#include "server/api_error.h"

#include <nlohmann/json.hpp>

#include "server/parameters.h"

namespace nemoforge::server {
namespace {

int http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kInvalidData:
    case ErrorCode::kUnsupported:
      return 400;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kResourceExhausted:
      return 429;
    case ErrorCode::kUnavailable:
      return 503;
    case ErrorCode::kCancelled:
      return 499;
    case ErrorCode::kIo:
      return 500;
  }
  return 500;
}

const char* type_name(int status) {
  switch (status) {
    case 401:
      return "AuthenticationError";
    case 404:
      return "NotFoundError";
    case 405:
      return "MethodNotAllowedError";
    case 415:
      return "UnsupportedMediaTypeError";
    case 413:
    case 431:
      return "RequestTooLargeError";
    case 429:
      return "RateLimitError";
    case 500:
      return "InternalServerError";
    case 503:
      return "ServiceUnavailableError";
    default:
      return "BadRequestError";
  }
}

}  // namespace

ApiError to_api_error(const Error& error) {
  return {http_status(error.code), error.to_string(), parameter_at_fault(error.message)};
}

io::Json error_json(const ApiError& error) {
  return {{"error",
           {{"message", error.message},
            {"type", type_name(error.status)},
            {"param", error.param.empty() ? io::Json(nullptr) : io::Json(error.param)},
            {"code", error.status}}}};
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response;
  response.status = error.status;
  response.body = io::dump_json(error_json(error));
  if (error.status == 429 || error.status == 503) response.headers.emplace_back("Retry-After", "1");
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  response.close = error.status == 413 || error.status == 431;
  return response;
}

}  // namespace nemoforge::server
