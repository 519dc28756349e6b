#include "io/json.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "io/file.h"

namespace nemoforge::io {
namespace {

// Replaces bare non-finite literals outside strings by numbers that overflow or a marker that the parser can
// read. Infinity becomes 1e999 (which nlohmann refuses), so the literals are quoted and turned back after
// parsing.
constexpr std::string_view kInfinityMarker = "\x01nemoforge:Infinity";
constexpr std::string_view kMinusInfinityMarker = "\x01nemoforge:-Infinity";
constexpr std::string_view kNanMarker = "\x01nemoforge:NaN";

std::string quote_non_finite(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 64);
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\' && i + 1 < text.size()) {
        out.append(text.substr(i, 2));
        i += 2;
        continue;
      }
      in_string = c != '"';
      out.push_back(c);
      ++i;
      continue;
    }
    const auto replace = [&](std::string_view literal, std::string_view marker) {
      if (text.substr(i, literal.size()) != literal) return false;
      // JSON strings may not hold a raw control character, so no document can forge the marker unescaped; the
      // escaped form is what the parser turns into the same bytes, which only a document of ours contains.
      out.append("\"\\u0001").append(marker.substr(1)).append("\"");
      i += literal.size();
      return true;
    };
    if (replace("-Infinity", kMinusInfinityMarker) || replace("Infinity", kInfinityMarker) ||
        replace("NaN", kNanMarker)) {
      continue;
    }
    in_string = c == '"';
    out.push_back(c);
    ++i;
  }
  return out;
}

void restore_non_finite(Json& value) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (text == kInfinityMarker) {
      value = INFINITY;
    } else if (text == kMinusInfinityMarker) {
      value = -INFINITY;
    } else if (text == kNanMarker) {
      value = NAN;
    }
    return;
  }
  if (value.is_structured()) {
    for (auto& child : value) restore_non_finite(child);
  }
}

// The deepest nesting of brackets outside strings; counted before parsing, since destroying or walking a deep
// value recurses.
int nesting_depth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  if (nesting_depth(text) > limits.max_depth) {
    return error(ErrorCode::kInvalidData,
                 "JSON is nested deeper than " + std::to_string(limits.max_depth) + " levels");
  }
  try {
    if (!limits.allow_non_finite) return Json::parse(text);
    Json value = Json::parse(quote_non_finite(text));
    restore_non_finite(value);
    return value;
  } catch (const nlohmann::json::exception& failure) {
    // The library's text begins with "[json.exception.parse_error.101] "; what follows says where.
    std::string message = failure.what();
    if (const size_t end = message.find("] "); end != std::string::npos) message = message.substr(end + 2);
    return error(ErrorCode::kInvalidData, "invalid JSON: " + message);
  }
}

Result<Json> read_json_file(const std::string& path, const JsonLimits& limits) {
  NF_TRY(const std::string text, read_file(path));
  auto value = parse_json(text, limits);
  if (!value) return error(value.error().code, path + ": " + value.error().message);
  return value;
}

std::string dump_json(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace nemoforge::io
