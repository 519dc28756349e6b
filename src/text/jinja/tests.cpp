// What follows `is` (callables.h).
#include <cmath>

#include "text/jinja/callables.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"

namespace nemoforge::text::jinja {
namespace {

Status no_arguments(const Arguments& arguments) {
  if (arguments.positional.empty() && arguments.keyword.empty()) return {};
  return type_error("the test takes no arguments");
}

template <bool (*kHolds)(const Value&)>
Result<bool> simple(Runtime&, const Value& value, Arguments& arguments) {
  NF_RETURN_IF_ERROR(no_arguments(arguments));
  return kHolds(value);
}

template <Comparison kOp>
Result<bool> comparison(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("test", arguments, {"other"}, 1));
  return compare(runtime, kOp, value, args.get(0));
}

Result<bool> modulo_is(Runtime& runtime, const Value& value, const Value& divisor, int remainder) {
  NF_TRY(const Value rest, apply_binary(runtime, BinaryOperator::kMod, value, divisor));
  return equals(runtime, rest, Value(remainder));
}

template <int kRemainder>
Result<bool> parity(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_RETURN_IF_ERROR(no_arguments(arguments));
  return modulo_is(runtime, value, Value(2), kRemainder);
}

Result<bool> divisible_by(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("divisibleby", arguments, {"num"}, 1));
  return modulo_is(runtime, value, args.get(0), 0);
}

Result<bool> same_as(Runtime&, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("sameas", arguments, {"other"}, 1));
  return is_same(value, args.get(0));
}

template <bool kUpper>
Result<bool> case_is(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_RETURN_IF_ERROR(no_arguments(arguments));
  NF_TRY(const std::string text, to_text(runtime, value));
  return has_only_case(runtime, text, kUpper);
}

template <typename Entry, const Entry* (*kFind)(std::string_view)>
Result<bool> is_named(Runtime&, const Value& value, Arguments& arguments) {
  NF_RETURN_IF_ERROR(no_arguments(arguments));
  if (!is_hashable(value)) return type_error("unhashable type: '" + std::string(type_name(value)) + "'");
  return value.is_string() && kFind(value.text()) != nullptr;
}

bool is_defined(const Value& v) {
  return !v.is_undefined();
}
bool is_undefined(const Value& v) {
  return v.is_undefined();
}
bool is_none(const Value& v) {
  return v.is_none();
}
bool is_boolean(const Value& v) {
  return v.is(Kind::kBool);
}
bool is_exactly_true(const Value& v) {
  return v.is(Kind::kBool) && v.as_bool();
}
bool is_exactly_false(const Value& v) {
  return v.is(Kind::kBool) && !v.as_bool();
}
bool is_int(const Value& v) {
  return v.is(Kind::kInt);
}
bool is_float(const Value& v) {
  return v.is(Kind::kFloat);
}
bool is_number(const Value& v) {
  return v.is_number();
}
bool is_string(const Value& v) {
  return v.is_string();
}
bool is_mapping(const Value& v) {
  return v.is(Kind::kDict);
}
bool is_escaped(const Value& v) {
  return v.is_string() && v.as<StringObject>().markup;
}
// What has a length and an index; an undefined value has both.
bool is_sequence(const Value& v) {
  return v.is_string() || v.is_sequence() || v.is(Kind::kDict) || v.is(Kind::kRange) || v.is_undefined();
}
bool is_iterable(const Value& v) {
  return is_sequence(v) || v.is(Kind::kIterator) || v.is(Kind::kDictView) || v.is(Kind::kLoop);
}
bool is_callable(const Value& v) {
  return v.is(Kind::kMacro) || v.is(Kind::kFunction) || v.is(Kind::kMethod) || v.is(Kind::kLoop) ||
         v.is(Kind::kJoiner) || v.is_undefined();
}

// Sorted by name.
constexpr Test kTests[] = {
    {"!=", comparison<Comparison::kNe>},
    {"<", comparison<Comparison::kLt>},
    {"<=", comparison<Comparison::kLe>},
    {"==", comparison<Comparison::kEq>},
    {">", comparison<Comparison::kGt>},
    {">=", comparison<Comparison::kGe>},
    {"boolean", simple<is_boolean>},
    {"callable", simple<is_callable>},
    {"defined", simple<is_defined>},
    {"divisibleby", divisible_by},
    {"eq", comparison<Comparison::kEq>},
    {"equalto", comparison<Comparison::kEq>},
    {"escaped", simple<is_escaped>},
    {"even", parity<0>},
    {"false", simple<is_exactly_false>},
    {"filter", is_named<Filter, find_filter>},
    {"float", simple<is_float>},
    {"ge", comparison<Comparison::kGe>},
    {"greaterthan", comparison<Comparison::kGt>},
    {"gt", comparison<Comparison::kGt>},
    {"in", comparison<Comparison::kIn>},
    {"integer", simple<is_int>},
    {"iterable", simple<is_iterable>},
    {"le", comparison<Comparison::kLe>},
    {"lessthan", comparison<Comparison::kLt>},
    {"lower", case_is<false>},
    {"lt", comparison<Comparison::kLt>},
    {"mapping", simple<is_mapping>},
    {"ne", comparison<Comparison::kNe>},
    {"none", simple<is_none>},
    {"number", simple<is_number>},
    {"odd", parity<1>},
    {"sameas", same_as},
    {"sequence", simple<is_sequence>},
    {"string", simple<is_string>},
    {"test", is_named<Test, find_test>},
    {"true", simple<is_exactly_true>},
    {"undefined", simple<is_undefined>},
    {"upper", case_is<true>},
};

}  // namespace

const Test* find_test(std::string_view name) {
  return find_by_name(std::span<const Test>(kTests), name);
}

}  // namespace nemoforge::text::jinja
