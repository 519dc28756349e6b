// JSON of untrusted origin, parsed within limits, never throwing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"

namespace nemoforge::io {

// Keeps the keys' order, as templates and tools need it, and finds a key in time linear in their number.
using Json = nlohmann::ordered_json;
// Sorts its keys: for objects of very many.
using SortedJson = nlohmann::json;

struct JsonLimits {
  int max_depth = 128;
  // Accept the bare Infinity, -Infinity and NaN that Python's json module writes (Hugging Face's config.json
  // files) where a value may stand.
  bool allow_non_finite = false;
  // Refuse an object that has a key twice, where the last one would win otherwise. Not with allow_non_finite.
  bool reject_duplicate_keys = false;
};

// Parses one JSON document (UTF-8 without a byte order mark; nothing but white space after it). kInvalidData
// with the byte offset on a syntax error, invalid UTF-8, nesting deeper than the limit, or an object of more
// than kMaxObjectKeys. Of duplicate keys, where they are not refused, the last one wins.
inline constexpr int64_t kMaxObjectKeys = 8192;
[[nodiscard]] Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});
// The same with any number of keys.
[[nodiscard]] Result<SortedJson> parse_sorted_json(std::string_view text, const JsonLimits& limits = {});

// Parses the JSON file at `path`; errors name the path.
[[nodiscard]] Result<Json> read_json_file(const std::string& path, const JsonLimits& limits = {});
[[nodiscard]] Result<SortedJson> read_sorted_json_file(const std::string& path,
                                                       const JsonLimits& limits = {});

// One line of JSON without ASCII escapes; invalid UTF-8 in strings becomes U+FFFD.
[[nodiscard]] std::string dump_json(const Json& value);

}  // namespace nemoforge::io
