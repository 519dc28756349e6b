// Python's operators on values: comparison, membership, arithmetic, subscription, iteration.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace nemoforge::text::jinja {

enum class BinaryOperator { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
enum class Comparison { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

// The error that any use of an undefined value gives, in the words of Jinja.
[[nodiscard]] tl::unexpected<Error> undefined_error(const Value& undefined);
// A TypeError, ValueError and the like of Python.
[[nodiscard]] tl::unexpected<Error> type_error(std::string message);

[[nodiscard]] Result<Value> apply_binary(Runtime& runtime, BinaryOperator op, const Value& left,
                                         const Value& right);
[[nodiscard]] Result<Value> negate(const Value& value);
// +value; Python makes an int of a bool.
[[nodiscard]] Result<Value> unary_plus(const Value& value);

[[nodiscard]] bool equals(Runtime& runtime, const Value& left, const Value& right);
[[nodiscard]] Result<bool> less_than(Runtime& runtime, const Value& left, const Value& right,
                                     std::string_view op = "<");
[[nodiscard]] Result<bool> contains(Runtime& runtime, const Value& container, const Value& item);
[[nodiscard]] Result<bool> compare(Runtime& runtime, Comparison op, const Value& left, const Value& right);
// `left is right` for values without identity of their own.
[[nodiscard]] bool is_same(const Value& left, const Value& right);

// The items that iteration yields; consumes an iterator.
[[nodiscard]] Result<std::vector<Value>> iterate(Runtime& runtime, const Value& value);
// len(value).
[[nodiscard]] Result<int64_t> length_of(const Value& value);

// obj[key] and obj.name by Jinja's rules: one falls back to the other, and what is not there is undefined.
[[nodiscard]] Result<Value> get_item(Runtime& runtime, const Value& object, const Value& key);
[[nodiscard]] Result<Value> get_attribute(Runtime& runtime, const Value& object, std::string_view name);
// obj[start:stop:step]; None where absent.
[[nodiscard]] Result<Value> get_slice(Runtime& runtime, const Value& object, const Value& start,
                                      const Value& stop, const Value& step);

// An int argument as int64_t; "name" is for the error.
[[nodiscard]] Result<int64_t> to_index(const Value& value, std::string_view name);

// HTML escaping, as `escape` and markup do it.
[[nodiscard]] std::string escape_html(std::string_view text);

}  // namespace nemoforge::text::jinja
