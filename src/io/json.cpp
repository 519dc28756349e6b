#include "io/json.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "io/file.h"

namespace nemoforge::io {
namespace {

struct NonFinite {
  std::string_view literal;
  double value;
};
constexpr std::array kNonFinite = {NonFinite{"-Infinity", -INFINITY}, NonFinite{"Infinity", INFINITY},
                                   NonFinite{"NaN", NAN}};

// Calls visit(i) at each byte outside strings and visit_string() at each opening quote.
template <typename Visit, typename VisitString>
void scan_outside_strings(std::string_view text, Visit visit, VisitString visit_string) {
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
      visit_string();
    } else {
      visit(i);
    }
  }
}

// What a text holds before it is parsed: destroying or walking a deep value recurses, and building a wide
// object of ordered keys takes time quadratic in their number.
struct Extent {
  int64_t depth = 0;        // of the deepest nesting of brackets
  int64_t object_keys = 0;  // of the object with the most
};

Extent measure(std::string_view text) {
  Extent extent;
  std::vector<int64_t> keys = {0};  // colons of the text's top and of each open bracket
  scan_outside_strings(
      text,
      [&](size_t i) {
        const char c = text[i];
        if (c == '[' || c == '{') {
          keys.push_back(0);
          extent.depth = std::max(extent.depth, static_cast<int64_t>(keys.size()) - 1);
        } else if ((c == ']' || c == '}') && keys.size() > 1) {
          keys.pop_back();
        } else if (c == ':') {
          extent.object_keys = std::max(extent.object_keys, ++keys.back());
        }
      },
      [] {});
  return extent;
}

// The parser knows no non-finite numbers. Each bare literal is therefore replaced by an empty string of the
// same length (so that offsets in errors stay true), and remembered by its place among the document's
// strings, which no document can forge.
struct QuotedNonFinite {
  size_t string_idx;
  double value;
};

std::vector<QuotedNonFinite> quote_non_finite(std::string& text) {
  std::vector<QuotedNonFinite> quoted;
  size_t num_strings = 0;
  const std::string_view original = text;
  std::vector<std::pair<size_t, size_t>> replaced;
  scan_outside_strings(
      original,
      [&](size_t i) {
        if (!replaced.empty() && i < replaced.back().first + replaced.back().second) return;
        for (const auto& [literal, value] : kNonFinite) {
          if (original.substr(i, literal.size()) != literal) continue;
          replaced.emplace_back(i, literal.size());
          quoted.push_back({num_strings++, value});
          return;
        }
      },
      [&] { ++num_strings; });
  for (const auto& [begin, size] : replaced) {
    text.replace(begin, size, size, ' ');
    text[begin] = text[begin + 1] = '"';
  }
  return quoted;
}

// Puts the literals' values where quote_non_finite put strings.
template <typename Value>
class NonFiniteRestorer {
 public:
  explicit NonFiniteRestorer(std::vector<QuotedNonFinite> quoted) : quoted_(std::move(quoted)) {}

  void see(typename Value::parse_event_t event, Value& parsed) {
    using Event = typename Value::parse_event_t;
    if (event == Event::key) {
      if (take_non_finite()) found_key_ = true;
    } else if (event == Event::value && parsed.is_string()) {
      if (const auto* quoted = take_non_finite()) parsed = quoted->value;
    }
  }

  // A literal stands where a key must.
  [[nodiscard]] bool found_key() const { return found_key_; }

 private:
  // Counts one string; the literal that it stands for, or null for a string of the document.
  const QuotedNonFinite* take_non_finite() {
    const size_t string_idx = num_strings_++;
    if (next_quoted_ == quoted_.size() || quoted_[next_quoted_].string_idx != string_idx) return nullptr;
    return &quoted_[next_quoted_++];
  }

  std::vector<QuotedNonFinite> quoted_;
  size_t num_strings_ = 0;
  size_t next_quoted_ = 0;
  bool found_key_ = false;
};

// Looks for a key that an object has twice, as the library's parser meets them.
class DuplicateKeys : public nlohmann::json_sax<Json> {
 public:
  bool start_object(size_t /*elements*/) override {
    keys_.emplace_back();
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    return true;
  }
  bool key(std::string& key) override {
    if (keys_.back().insert(key).second) return true;
    found_ = key;
    return false;
  }
  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool number_integer(int64_t /*value*/) override { return true; }
  bool number_unsigned(uint64_t /*value*/) override { return true; }
  bool number_float(double /*value*/, const std::string& /*text*/) override { return true; }
  bool string(std::string& /*value*/) override { return true; }
  bool binary(Json::binary_t& /*value*/) override { return true; }
  bool start_array(size_t /*elements*/) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(size_t /*offset*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*failure*/) override {
    return false;
  }

  [[nodiscard]] const std::optional<std::string>& found() const { return found_; }

 private:
  std::vector<std::unordered_set<std::string>> keys_;
  std::optional<std::string> found_;
};

// `text` with its non-finite literals, through the library's callbacks, which take time quadratic in the
// members of an object: for small files.
template <typename Value>
Result<Value> parse_non_finite(std::string text) {
  NonFiniteRestorer<Value> restorer(quote_non_finite(text));
  Value value = Value::parse(text, [&](int /*depth*/, typename Value::parse_event_t event, Value& parsed) {
    restorer.see(event, parsed);
    return true;
  });
  if (restorer.found_key())
    return error(ErrorCode::kInvalidData, "invalid JSON: a number stands where a key must");
  return value;
}

template <typename Value>
Result<Value> parse(std::string_view text, const JsonLimits& limits, int64_t max_object_keys) {
  NF_CHECK(!limits.allow_non_finite || !limits.reject_duplicate_keys);
  // The library takes a NUL for the end of the text, and skips a byte order mark; neither is JSON.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return error(ErrorCode::kInvalidData, "invalid JSON: a NUL byte at offset " + std::to_string(nul));
  }
  if (text.starts_with("\xef\xbb\xbf")) {
    return error(ErrorCode::kInvalidData, "invalid JSON: it begins with a byte order mark");
  }
  const Extent extent = measure(text);
  if (extent.depth > limits.max_depth) {
    return error(ErrorCode::kInvalidData,
                 "JSON is nested deeper than " + std::to_string(limits.max_depth) + " levels");
  }
  if (extent.object_keys > max_object_keys) {
    return error(ErrorCode::kInvalidData,
                 "JSON has an object of more than " + std::to_string(max_object_keys) + " keys");
  }
  try {
    if (limits.reject_duplicate_keys) {
      DuplicateKeys keys;
      Json::sax_parse(text, &keys);
      if (keys.found())
        return error(ErrorCode::kInvalidData, "invalid JSON: the key \"" + *keys.found() + "\" occurs twice");
    }
    return limits.allow_non_finite ? parse_non_finite<Value>(std::string(text)) : Value::parse(text);
  } catch (const nlohmann::json::exception& failure) {
    // The library's text begins with "[json.exception.parse_error.101] "; what follows says where. Its end
    // may repeat the document's own bytes, which are of any length and need not be UTF-8.
    std::string message = failure.what();
    if (const size_t end = message.find("] "); end != std::string::npos) message = message.substr(end + 2);
    message = message.substr(0, message.find("; last read: "));
    return error(ErrorCode::kInvalidData, "invalid JSON: " + message);
  }
}

// The value of `parsed`, which came from the file at `path`.
template <typename Value>
Result<Value> name_path(const std::string& path, Result<Value> parsed) {
  if (!parsed) return error(parsed.error().code, path + ": " + parsed.error().message);
  return parsed;
}

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  return parse<Json>(text, limits, kMaxObjectKeys);
}

Result<SortedJson> parse_sorted_json(std::string_view text, const JsonLimits& limits) {
  return parse<SortedJson>(text, limits, std::numeric_limits<int64_t>::max());
}

Result<Json> read_json_file(const std::string& path, const JsonLimits& limits) {
  NF_TRY(const std::string text, read_file(path));
  return name_path(path, parse_json(text, limits));
}

Result<SortedJson> read_sorted_json_file(const std::string& path, const JsonLimits& limits) {
  NF_TRY(const std::string text, read_file(path));
  return name_path(path, parse_sorted_json(text, limits));
}

std::string dump_json(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace nemoforge::io
