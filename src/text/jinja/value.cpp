#include "text/jinja/value.h"

#include <algorithm>

#include "text/jinja/runtime.h"
#include "text/jinja/unicode.h"

namespace nemoforge::text::jinja {
namespace {

// Below this, looking at every entry is as quick as a binary search.
constexpr size_t kLinearEntries = 12;

int key_rank(const Value& key) {
  switch (key.kind()) {
    case Kind::kNone:
      return 0;
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      return 1;
    case Kind::kString:
      return 2;
    case Kind::kTuple:
      return 3;
    default:
      return 4;
  }
}

template <typename T>
int three_way(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

}  // namespace

Object::~Object() {
  if (meter != nullptr) meter->live_bytes -= charged_bytes;
}

StringObject::StringObject(std::string string_text)
    : Object(Kind::kString), text(std::move(string_text)), ascii(is_ascii(text)) {}

Value Value::constant(std::string text) {
  return Value(std::make_shared<StringObject>(std::move(text)));
}

const Value* DictObject::find(const Value& key) const {
  if (by_key.empty()) {
    for (const auto& [name, value] : entries) {
      if (compare_keys(name, key) == 0) return &value;
    }
    return nullptr;
  }
  const auto it = std::lower_bound(
      by_key.begin(), by_key.end(), key,
      [this](uint32_t idx, const Value& wanted) { return compare_keys(entries[idx].first, wanted) < 0; });
  if (it == by_key.end() || compare_keys(entries[*it].first, key) != 0) return nullptr;
  return &entries[*it].second;
}

const Value* DictObject::find(std::string_view key) const {
  if (entries.size() > kLinearEntries) return find(Value::constant(std::string(key)));
  for (const auto& [name, value] : entries) {
    if (name.is_string() && name.text() == key) return &value;
  }
  return nullptr;
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kString:
      return value.as<StringObject>().markup ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kRange:
      return "range";
    case Kind::kIterator:
      return "generator";
    case Kind::kDictView: {
      constexpr std::string_view kNames[] = {"dict_keys", "dict_values", "dict_items"};
      return kNames[static_cast<size_t>(value.as<DictViewObject>().view)];
    }
    case Kind::kMacro:
      return "Macro";
    case Kind::kFunction:
      return "function";
    case Kind::kMethod:
      return "builtin_function_or_method";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kCycler:
      return "Cycler";
    case Kind::kJoiner:
      return "Joiner";
  }
  return "object";
}

bool is_true(const Value& value) {
  switch (value.kind()) {
    case Kind::kNone:
    case Kind::kUndefined:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.as_int() != 0;
    case Kind::kFloat:
      return value.as_double() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !value.items().empty();
    case Kind::kDict:
      return !value.dict().entries.empty();
    case Kind::kRange:
      return value.as<RangeObject>().length > 0;
    case Kind::kDictView:
      return !value.as<DictViewObject>().dict.dict().entries.empty();
    default:
      return true;
  }
}

bool is_hashable(const Value& value) {
  switch (value.kind()) {
    case Kind::kList:
    case Kind::kDict:
    case Kind::kDictView:
      return false;
    case Kind::kTuple:
      return std::all_of(value.items().begin(), value.items().end(), is_hashable);
    default:
      return true;
  }
}

int compare_keys(const Value& a, const Value& b) {
  const int rank = key_rank(a);
  if (rank != key_rank(b)) return three_way(rank, key_rank(b));
  switch (rank) {
    case 0:
      return 0;
    case 1:
      if (a.is_integral() && b.is_integral()) return three_way(a.as_int(), b.as_int());
      return three_way(a.as_double(), b.as_double());
    case 2: {
      const int order = a.text().compare(b.text());
      return three_way(order, 0);
    }
    case 3: {
      const auto& left = a.items();
      const auto& right = b.items();
      for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
        if (const int order = compare_keys(left[i], right[i]); order != 0) return order;
      }
      return three_way(left.size(), right.size());
    }
    default:
      if (a.is_undefined() && b.is_undefined()) return 0;
      return three_way(reinterpret_cast<uintptr_t>(a.object()), reinterpret_cast<uintptr_t>(b.object()));
  }
}

}  // namespace nemoforge::text::jinja
