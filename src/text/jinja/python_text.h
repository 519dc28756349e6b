// How Python writes values: str(), repr(), json.dumps(), and the number forms they share.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace nemoforge::text::jinja {

[[nodiscard]] std::string int_to_text(Int value);
// repr(float): the shortest digits that read back the same; exponents from 1e16 and below 1e-4.
[[nodiscard]] std::string float_to_text(double value);
// repr(str): single quotes unless the text has them and no double ones.
[[nodiscard]] std::string quote(std::string_view text);

// str(value) and repr(value); fails on what has no reproducible text (a generator) and on runaway size.
[[nodiscard]] Result<std::string> to_text(const Runtime& runtime, const Value& value);
[[nodiscard]] Result<std::string> to_repr(const Runtime& runtime, const Value& value);
// ascii(value): the repr with escapes for all that is not ASCII.
[[nodiscard]] Result<std::string> to_ascii(const Runtime& runtime, const Value& value);

// The arguments of the tojson filter as transformers defines it: json.dumps(ensure_ascii=False) without HTML
// escapes or key sorting, unless asked.
struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<std::string> indent;  // one level's text; none: one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
[[nodiscard]] Result<std::string> to_json(const Runtime& runtime, const Value& value, const JsonStyle& style);

}  // namespace nemoforge::text::jinja
