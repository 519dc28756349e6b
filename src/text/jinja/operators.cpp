#include "text/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/printf_format.h"
#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace nemoforge::text::jinja {
namespace {

constexpr std::string_view kSymbols[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};

tl::unexpected<Error> unsupported_operands(BinaryOperator op, const Value& left, const Value& right) {
  if (op == BinaryOperator::kAdd && left.is_string()) {
    return type_error("can only concatenate str (not \"" + std::string(type_name(right)) + "\") to str");
  }
  return type_error("unsupported operand type(s) for " + std::string(kSymbols[static_cast<size_t>(op)]) +
                    ": '" + std::string(type_name(left)) + "' and '" + std::string(type_name(right)) + "'");
}

tl::unexpected<Error> integer_overflow() {
  return error(ErrorCode::kResourceExhausted, "an integer would need more than 128 bits");
}

Result<Value> integer_power(Int base, Int exponent) {
  if (exponent < 0) {
    if (base == 0) return type_error("0.0 cannot be raised to a negative power");
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  Int result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return integer_overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
      // A square that overflows matters only when it is used; 0 and ±1 never get here.
      return integer_overflow();
    }
  }
  return Value(result);
}

Result<Value> integer_arithmetic(BinaryOperator op, Int a, Int b) {
  Int result = 0;
  switch (op) {
    case BinaryOperator::kAdd:
      if (__builtin_add_overflow(a, b, &result)) return integer_overflow();
      return Value(result);
    case BinaryOperator::kSub:
      if (__builtin_sub_overflow(a, b, &result)) return integer_overflow();
      return Value(result);
    case BinaryOperator::kMul:
      if (__builtin_mul_overflow(a, b, &result)) return integer_overflow();
      return Value(result);
    case BinaryOperator::kDiv:
      if (b == 0) return type_error("division by zero");
      return Value(static_cast<double>(a) / static_cast<double>(b));
    case BinaryOperator::kFloorDiv:
    case BinaryOperator::kMod: {
      if (b == 0) return type_error("integer division or modulo by zero");
      if (b == -1) {
        // The only quotient that overflows.
        if (op == BinaryOperator::kMod) return Value(Int{0});
        return integer_arithmetic(BinaryOperator::kSub, 0, a);
      }
      Int quotient = a / b;
      Int remainder = a % b;
      if (remainder != 0 && (remainder < 0) != (b < 0)) {
        --quotient;
        remainder += b;
      }
      return Value(op == BinaryOperator::kMod ? remainder : quotient);
    }
    case BinaryOperator::kPow:
      return integer_power(a, b);
  }
  return integer_overflow();
}

Result<Value> float_arithmetic(BinaryOperator op, double a, double b) {
  switch (op) {
    case BinaryOperator::kAdd:
      return Value(a + b);
    case BinaryOperator::kSub:
      return Value(a - b);
    case BinaryOperator::kMul:
      return Value(a * b);
    case BinaryOperator::kDiv:
      if (b == 0) return type_error("float division by zero");
      return Value(a / b);
    case BinaryOperator::kFloorDiv:
    case BinaryOperator::kMod: {
      if (b == 0)
        return type_error(op == BinaryOperator::kMod ? "float modulo" : "float floor division by zero");
      double remainder = std::fmod(a, b);
      double quotient = (a - remainder) / b;
      if (remainder != 0 && (b < 0) != (remainder < 0)) {
        remainder += b;
        quotient -= 1.0;
      } else if (remainder == 0) {
        remainder = std::copysign(0.0, b);
      }
      if (op == BinaryOperator::kMod) return Value(remainder);
      if (quotient == 0) return Value(std::copysign(0.0, a / b));
      double floored = std::floor(quotient);
      if (quotient - floored > 0.5) floored += 1.0;
      return Value(floored);
    }
    case BinaryOperator::kPow: {
      if (a == 0 && b < 0) return type_error("0.0 cannot be raised to a negative power");
      const double result = std::pow(a, b);
      if (std::isnan(result) && !std::isnan(a) && !std::isnan(b)) {
        return error(ErrorCode::kUnsupported, "the power of a negative number is complex");
      }
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
        return type_error("(34, 'Numerical result out of range')");
      }
      return Value(result);
    }
  }
  return integer_overflow();
}

Result<Value> add_strings(Runtime& runtime, const Value& left, const Value& right) {
  NF_RETURN_IF_ERROR(runtime.check_size(Int(left.text().size()) + Int(right.text().size())));
  const bool left_markup = left.as<StringObject>().markup;
  const bool right_markup = right.as<StringObject>().markup;
  if (left_markup == right_markup) {
    return left_markup ? runtime.markup(left.text() + right.text())
                       : runtime.string(left.text() + right.text());
  }
  return runtime.markup((left_markup ? left.text() : escape_html(left.text())) +
                        (right_markup ? right.text() : escape_html(right.text())));
}

Result<Value> repeat(Runtime& runtime, const Value& value, Int times) {
  times = std::max(times, Int{0});
  if (value.is_string()) {
    const auto size = static_cast<Int>(value.text().size());
    if (size > 0 && times > runtime.limits().max_output_bytes)
      return forward_error(runtime.check_size(times));
    NF_RETURN_IF_ERROR(runtime.check_size(size * (size > 0 ? times : 0)));
    std::string out;
    out.reserve(static_cast<size_t>(size * (size > 0 ? times : 0)));
    for (Int i = 0; size > 0 && i < times; ++i) out += value.text();
    return value.as<StringObject>().markup ? runtime.markup(std::move(out)) : runtime.string(std::move(out));
  }
  const auto& items = value.items();
  if (!items.empty() && times > runtime.limits().max_output_bytes)
    return forward_error(runtime.check_size(times));
  const Int total = items.empty() ? 0 : static_cast<Int>(items.size()) * times;
  NF_RETURN_IF_ERROR(runtime.check_size(total * static_cast<Int>(sizeof(Value))));
  std::vector<Value> out;
  out.reserve(static_cast<size_t>(total));
  for (Int i = 0; !items.empty() && i < times; ++i) out.insert(out.end(), items.begin(), items.end());
  return value.is(Kind::kList) ? runtime.list(std::move(out)) : runtime.tuple(std::move(out));
}

Result<bool> sequence_less(Runtime& runtime, const std::vector<Value>& left, const std::vector<Value>& right,
                           std::string_view op) {
  const size_t common = std::min(left.size(), right.size());
  for (size_t i = 0; i < common; ++i) {
    if (!equals(runtime, left[i], right[i])) return less_than(runtime, left[i], right[i], op);
  }
  if (op == "<=" || op == ">=") return left.size() <= right.size();
  return left.size() < right.size();
}

bool dicts_equal(Runtime& runtime, const DictObject& left, const DictObject& right) {
  if (left.entries.size() != right.entries.size()) return false;
  for (const auto& [key, value] : left.entries) {
    const Value* other = right.find(key);
    if (other == nullptr || !equals(runtime, value, *other)) return false;
  }
  return true;
}

}  // namespace

tl::unexpected<Error> undefined_error(const Value& undefined) {
  return error(ErrorCode::kInvalidArgument, undefined.as<UndefinedObject>().hint);
}

tl::unexpected<Error> type_error(std::string message) {
  return error(ErrorCode::kInvalidArgument, std::move(message));
}

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

Result<Value> apply_binary(Runtime& runtime, BinaryOperator op, const Value& left, const Value& right) {
  // str % value formats even an undefined one.
  if (op == BinaryOperator::kMod && left.is_string()) return format_printf(runtime, left, right);
  if (left.is_undefined()) return undefined_error(left);
  if (right.is_undefined()) return undefined_error(right);
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral())
      return integer_arithmetic(op, left.as_int(), right.as_int());
    return float_arithmetic(op, left.as_double(), right.as_double());
  }
  if (op == BinaryOperator::kAdd) {
    if (left.is_string() && right.is_string()) return add_strings(runtime, left, right);
    if (left.is_sequence() && left.kind() == right.kind()) {
      std::vector<Value> items = left.items();
      items.insert(items.end(), right.items().begin(), right.items().end());
      return left.is(Kind::kList) ? runtime.list(std::move(items)) : runtime.tuple(std::move(items));
    }
  }
  if (op == BinaryOperator::kMul) {
    if ((left.is_string() || left.is_sequence()) && right.is_integral())
      return repeat(runtime, left, right.as_int());
    if ((right.is_string() || right.is_sequence()) && left.is_integral())
      return repeat(runtime, right, left.as_int());
  }
  return unsupported_operands(op, left, right);
}

Result<Value> negate(const Value& value) {
  if (value.is_undefined()) return undefined_error(value);
  if (value.is_integral()) return integer_arithmetic(BinaryOperator::kSub, 0, value.as_int());
  if (value.is_number()) return Value(-value.as_double());
  return type_error("bad operand type for unary -: '" + std::string(type_name(value)) + "'");
}

Result<Value> unary_plus(const Value& value) {
  if (value.is_undefined()) return undefined_error(value);
  if (value.is_integral()) return Value(value.as_int());
  if (value.is_number()) return value;
  return type_error("bad operand type for unary +: '" + std::string(type_name(value)) + "'");
}

bool equals(Runtime& runtime, const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) return left.as_int() == right.as_int();
    return left.as_double() == right.as_double();
  }
  if (left.kind() != right.kind()) return false;
  switch (left.kind()) {
    case Kind::kNone:
    case Kind::kUndefined:
      return true;
    case Kind::kString:
      runtime.work(std::min(left.text().size(), right.text().size()));
      return left.text() == right.text();
    case Kind::kList:
    case Kind::kTuple: {
      const auto& a = left.items();
      const auto& b = right.items();
      runtime.work(a.size() * 16);
      if (a.size() != b.size()) return false;
      for (size_t i = 0; i < a.size(); ++i) {
        if (!equals(runtime, a[i], b[i])) return false;
      }
      return true;
    }
    case Kind::kDict:
      runtime.work(left.dict().entries.size() * 64);
      return dicts_equal(runtime, left.dict(), right.dict());
    case Kind::kRange: {
      const auto& a = left.as<RangeObject>();
      const auto& b = right.as<RangeObject>();
      return a.length == b.length && (a.length == 0 || a.start == b.start) &&
             (a.length <= 1 || a.step == b.step);
    }
    default:
      return left.object() == right.object();
  }
}

Result<bool> less_than(Runtime& runtime, const Value& left, const Value& right, std::string_view op) {
  if (left.is_undefined()) return undefined_error(left);
  if (right.is_undefined()) return undefined_error(right);
  const bool or_equal = op == "<=" || op == ">=";
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) {
      return or_equal ? left.as_int() <= right.as_int() : left.as_int() < right.as_int();
    }
    return or_equal ? left.as_double() <= right.as_double() : left.as_double() < right.as_double();
  }
  if (left.is_string() && right.is_string()) {
    runtime.work(std::min(left.text().size(), right.text().size()));
    // The byte order of UTF-8 is the order of the code points.
    return or_equal ? left.text() <= right.text() : left.text() < right.text();
  }
  if (left.is_sequence() && left.kind() == right.kind()) {
    runtime.work(std::min(left.items().size(), right.items().size()) * 16);
    return sequence_less(runtime, left.items(), right.items(), op);
  }
  const bool swapped = op[0] == '>';
  const Value& first = swapped ? right : left;
  const Value& second = swapped ? left : right;
  return type_error("'" + std::string(op) + "' not supported between instances of '" +
                    std::string(type_name(first)) + "' and '" + std::string(type_name(second)) + "'");
}

Result<bool> contains(Runtime& runtime, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kString:
      if (item.is_undefined() || !item.is_string()) {
        return type_error("'in <string>' requires string as left operand, not " +
                          std::string(type_name(item)));
      }
      runtime.work(container.text().size());
      return find_linear(container.text(), item.text()) != std::string_view::npos;
    case Kind::kDict:
      if (!is_hashable(item)) return type_error("unhashable type: '" + std::string(type_name(item)) + "'");
      return container.dict().find(item) != nullptr;
    case Kind::kUndefined:
      return false;
    case Kind::kIterator: {
      auto& iterator = container.as<IteratorObject>();
      while (iterator.next < iterator.items.size()) {
        if (equals(runtime, iterator.items[iterator.next++], item)) return true;
      }
      return false;
    }
    case Kind::kList:
    case Kind::kTuple: {
      const auto& items = container.items();
      runtime.work(items.size() * 16);
      return std::any_of(items.begin(), items.end(),
                         [&](const Value& v) { return equals(runtime, v, item); });
    }
    case Kind::kRange:
    case Kind::kDictView:
    case Kind::kLoop: {
      NF_TRY(const auto items, iterate(runtime, container));
      return std::any_of(items.begin(), items.end(),
                         [&](const Value& v) { return equals(runtime, v, item); });
    }
    default:
      return type_error("argument of type '" + std::string(type_name(container)) + "' is not iterable");
  }
}

Result<bool> compare(Runtime& runtime, Comparison op, const Value& left, const Value& right) {
  switch (op) {
    case Comparison::kEq:
      return equals(runtime, left, right);
    case Comparison::kNe:
      return !equals(runtime, left, right);
    case Comparison::kLt:
      return less_than(runtime, left, right, "<");
    case Comparison::kLe:
      return less_than(runtime, left, right, "<=");
    case Comparison::kGt:
      return less_than(runtime, right, left, ">");
    case Comparison::kGe:
      return less_than(runtime, right, left, ">=");
    case Comparison::kIn:
      return contains(runtime, right, left);
    case Comparison::kNotIn: {
      NF_TRY(const bool found, contains(runtime, right, left));
      return !found;
    }
  }
  return false;
}

bool is_same(const Value& left, const Value& right) {
  if (left.kind() != right.kind()) return false;
  switch (left.kind()) {
    case Kind::kNone:
      return true;
    case Kind::kBool:
    case Kind::kInt:
      return left.as_int() == right.as_int();
    case Kind::kFloat:
      return left.as_double() == right.as_double();
    case Kind::kString:
      return left.object() == right.object() || left.text() == right.text();
    case Kind::kTuple:
      return left.object() == right.object() || (left.items().empty() && right.items().empty());
    default:
      return left.object() == right.object();
  }
}

Result<int64_t> to_index(const Value& value, std::string_view name) {
  if (value.is_undefined()) return undefined_error(value);
  if (!value.is_integral()) {
    return type_error("'" + std::string(type_name(value)) + "' object cannot be interpreted as an integer (" +
                      std::string(name) + ")");
  }
  const Int wide = value.as_int();
  if (wide > INT64_MAX || wide < INT64_MIN) {
    return error(ErrorCode::kInvalidArgument, std::string(name) + " does not fit into 64 bits");
  }
  return static_cast<int64_t>(wide);
}

}  // namespace nemoforge::text::jinja
