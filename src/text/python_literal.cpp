#include "text/python_literal.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "text/utf8.h"

namespace nemoforge::text {
namespace {

using io::Json;

constexpr int kMaxDepth = 64;
constexpr size_t kMaxKeys = 4096;  // of a dict: finding a key takes time linear in their number

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

class LiteralReader {
 public:
  explicit LiteralReader(std::string_view text) : text_(text) {}

  std::optional<Json> read_all() {
    auto value = read(0);
    skip_space();
    return pos_ == text_.size() ? value : std::nullopt;
  }

 private:
  [[nodiscard]] char peek() const { return pos_ < text_.size() ? text_[pos_] : '\0'; }

  void skip_space() {
    while (pos_ < text_.size() && std::string_view(" \t\r\n").find(text_[pos_]) != std::string_view::npos) {
      ++pos_;
    }
  }

  bool take(std::string_view word) {
    if (!text_.substr(pos_).starts_with(word)) return false;
    pos_ += word.size();
    return true;
  }

  std::optional<Json> read(int depth) {
    if (depth > kMaxDepth) return std::nullopt;
    skip_space();
    switch (peek()) {
      case '[':
        return read_list(']', depth);
      case '(':
        return read_list(')', depth);
      case '{':
        return read_dict(depth);
      case '\'':
      case '"': {
        auto string = read_string();
        return string ? std::optional<Json>(*std::move(string)) : std::nullopt;
      }
      default:
        break;
    }
    if (take("True") || take("true")) return Json(true);
    if (take("False") || take("false")) return Json(false);
    if (take("None") || take("null")) return Json(nullptr);
    return read_number();
  }

  std::optional<Json> read_list(char close, int depth) {
    ++pos_;
    Json list = Json::array();
    for (;;) {
      skip_space();
      if (peek() == close) break;
      auto item = read(depth + 1);
      if (!item) return std::nullopt;
      list.push_back(*std::move(item));
      skip_space();
      if (peek() == ',') {
        ++pos_;
      } else if (peek() != close) {
        return std::nullopt;
      } else if (close == ')' && list.size() == 1) {
        ++pos_;
        return std::move(list[0]);  // (x) is x, (x,) a tuple
      }
    }
    ++pos_;
    return list;
  }

  std::optional<Json> read_dict(int depth) {
    ++pos_;
    Json dict = Json::object();
    for (;;) {
      skip_space();
      if (peek() == '}') break;
      auto key = read(depth + 1);
      if (!key || key->is_structured() || dict.size() >= kMaxKeys) return std::nullopt;
      skip_space();
      if (peek() != ':') return std::nullopt;
      ++pos_;
      auto value = read(depth + 1);
      if (!value) return std::nullopt;
      dict[key->is_string() ? key->get<std::string>() : key->dump()] = *std::move(value);
      skip_space();
      if (peek() == ',') {
        ++pos_;
      } else if (peek() != '}') {
        return std::nullopt;
      }
    }
    ++pos_;
    return dict;
  }

  std::optional<std::string> read_string() {
    const char quote = text_[pos_++];
    std::string out;
    while (pos_ < text_.size()) {
      const char c = text_[pos_++];
      if (c == quote) return is_valid_utf8(out) ? std::optional(std::move(out)) : std::nullopt;
      if (c == '\n') return std::nullopt;
      if (c != '\\') {
        out += c;
      } else if (!read_escape(out)) {
        return std::nullopt;
      }
    }
    return std::nullopt;
  }

  bool read_escape(std::string& out) {
    constexpr std::string_view kNames = "\\'\"ntrbfav0";
    constexpr std::string_view kValues = {"\\'\"\n\t\r\b\f\a\v\0", 11};
    const char c = peek();
    ++pos_;
    if (c == 'x') return read_hex(2, out);
    if (c == 'u') return read_hex(4, out);
    if (c == 'U') return read_hex(8, out);
    if (const size_t name = kNames.find(c); name != std::string_view::npos) {
      out += kValues[name];
    } else {
      out += '\\';  // as in Python
      out += c;
    }
    return true;
  }

  bool read_hex(size_t num_digits, std::string& out) {
    const std::string_view digits = text_.substr(std::min(pos_, text_.size()), num_digits);
    uint32_t value = 0;
    const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() != num_digits || failure != std::errc() || end != digits.data() + digits.size()) {
      return false;
    }
    pos_ += num_digits;
    append_utf8(out, value);
    return true;
  }

  std::optional<Json> read_number() {
    const bool negative = peek() == '-';
    if (negative || peek() == '+') ++pos_;
    const size_t begin = pos_;
    bool is_float = false;
    size_t num_digits = 0;
    for (; pos_ < text_.size(); ++pos_) {
      const char c = text_[pos_];
      if (is_digit(c)) {
        ++num_digits;
      } else if (c == '.' || c == 'e' || c == 'E' ||
                 ((c == '+' || c == '-') && (text_[pos_ - 1] == 'e' || text_[pos_ - 1] == 'E'))) {
        is_float = true;
      } else {
        break;
      }
    }
    if (num_digits == 0) return std::nullopt;
    const std::string_view spelling = text_.substr(begin, pos_ - begin);
    if (!is_float) {
      int64_t integer = 0;
      const auto [end, failure] =
          std::from_chars(spelling.data(), spelling.data() + spelling.size(), integer);
      if (failure == std::errc()) return Json(negative ? -integer : integer);
    }
    double number = 0;
    const auto [end, failure] = std::from_chars(spelling.data(), spelling.data() + spelling.size(), number);
    if (failure != std::errc() || end != spelling.data() + spelling.size() || !std::isfinite(number)) {
      return std::nullopt;
    }
    return Json(negative ? -number : number);
  }

  std::string_view text_;
  size_t pos_ = 0;
};

}  // namespace

std::optional<Json> parse_python_literal(std::string_view text) {
  return LiteralReader(text).read_all();
}

}  // namespace nemoforge::text
