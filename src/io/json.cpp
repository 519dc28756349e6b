#include "io/json.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <unordered_set>
#include <vector>

#include <nlohmann/json.hpp>

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

// The deepest nesting of brackets outside strings; counted before parsing, since destroying or walking a deep
// value recurses.
int nesting_depth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  scan_outside_strings(
      text,
      [&](size_t i) {
        if (text[i] == '[' || text[i] == '{') {
          deepest = std::max(deepest, ++depth);
        } else if (text[i] == ']' || text[i] == '}') {
          --depth;
        }
      },
      [] {});
  return deepest;
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

// What the parse watches for beside the grammar.
class ParseObserver {
 public:
  ParseObserver(std::vector<QuotedNonFinite> quoted, bool reject_duplicate_keys)
      : quoted_(std::move(quoted)), reject_duplicate_keys_(reject_duplicate_keys) {}

  bool operator()(Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start) {
      if (reject_duplicate_keys_) keys_.emplace_back();
    } else if (event == Event::object_end) {
      if (reject_duplicate_keys_) keys_.pop_back();
    } else if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (take_non_finite()) fail("a number stands where a key must");
      if (reject_duplicate_keys_ && !keys_.back().insert(key).second) {
        fail("the key \"" + key + "\" occurs twice");
      }
    } else if (event == Event::value && parsed.is_string()) {
      if (const auto* quoted = take_non_finite()) parsed = quoted->value;
    }
    return true;
  }

  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  // Counts one string; the literal that it stands for, or null for a string of the document.
  const QuotedNonFinite* take_non_finite() {
    const size_t string_idx = num_strings_++;
    if (next_quoted_ == quoted_.size() || quoted_[next_quoted_].string_idx != string_idx) return nullptr;
    return &quoted_[next_quoted_++];
  }

  void fail(std::string message) {
    if (failure_.empty()) failure_ = std::move(message);
  }

  std::vector<QuotedNonFinite> quoted_;
  bool reject_duplicate_keys_;
  size_t num_strings_ = 0;
  size_t next_quoted_ = 0;
  std::vector<std::unordered_set<std::string>> keys_;
  std::string failure_;
};

Result<Json> parse_observed(std::string_view text, const JsonLimits& limits) {
  std::string quoted_text(text);
  std::vector<QuotedNonFinite> quoted;
  if (limits.allow_non_finite) quoted = quote_non_finite(quoted_text);
  ParseObserver observer(std::move(quoted), limits.reject_duplicate_keys);
  Json value = Json::parse(quoted_text, [&](int /*depth*/, Json::parse_event_t event, Json& parsed) {
    return observer(event, parsed);
  });
  if (!observer.failure().empty()) {
    return error(ErrorCode::kInvalidData, "invalid JSON: " + observer.failure());
  }
  return value;
}

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  // The library takes a NUL for the end of the text, and skips a byte order mark; neither is JSON.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return error(ErrorCode::kInvalidData, "invalid JSON: a NUL byte at offset " + std::to_string(nul));
  }
  if (text.starts_with("\xef\xbb\xbf")) {
    return error(ErrorCode::kInvalidData, "invalid JSON: it begins with a byte order mark");
  }
  if (nesting_depth(text) > limits.max_depth) {
    return error(ErrorCode::kInvalidData,
                 "JSON is nested deeper than " + std::to_string(limits.max_depth) + " levels");
  }
  try {
    if (limits.allow_non_finite || limits.reject_duplicate_keys) return parse_observed(text, limits);
    return Json::parse(text);
  } catch (const nlohmann::json::exception& failure) {
    // The library's text begins with "[json.exception.parse_error.101] "; what follows says where. Its end
    // may repeat the document's own bytes, which are of any length and need not be UTF-8.
    std::string message = failure.what();
    if (const size_t end = message.find("] "); end != std::string::npos) message = message.substr(end + 2);
    message = message.substr(0, message.find("; last read: "));
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
