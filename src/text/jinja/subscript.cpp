// Iteration, length, subscription and attributes (operators.h).
#include <algorithm>

#include "text/jinja/callables.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace nemoforge::text::jinja {
namespace {

Value missing_item(Runtime& runtime, const Value& object, const Value& key) {
  const std::string type(type_name(object));
  if (key.is_string()) {
    const std::string of = object.is_none() ? "None" : type + " object";
    return runtime.undefined("'" + of + "' has no attribute " + quote(key.text()));
  }
  const auto repr = to_repr(runtime, key);
  return runtime.undefined((object.is_none() ? "None" : type + " object") + " has no element " +
                           (repr ? *repr : std::string(type_name(key))));
}

Value missing_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  const std::string of = object.is_none() ? "None" : std::string(type_name(object)) + " object";
  return runtime.undefined("'" + of + "' has no attribute " + quote(name));
}

// obj[index] of what has integer indices; nothing where it is out of range.
std::optional<Value> item_at(Runtime& runtime, const Value& object, Int index) {
  const auto wrap = [&](int64_t length) -> std::optional<int64_t> {
    if (index < 0) index += length;
    if (index < 0 || index >= length) return std::nullopt;
    return static_cast<int64_t>(index);
  };
  switch (object.kind()) {
    case Kind::kList:
    case Kind::kTuple: {
      const auto at = wrap(static_cast<int64_t>(object.items().size()));
      if (!at) return std::nullopt;
      return object.items()[static_cast<size_t>(*at)];
    }
    case Kind::kString: {
      const auto& string = object.as<StringObject>();
      if (string.ascii) {
        const auto at = wrap(static_cast<int64_t>(string.text.size()));
        if (!at) return std::nullopt;
        return runtime.string(string.text.substr(static_cast<size_t>(*at), 1));
      }
      runtime.work(string.text.size());
      const auto at = wrap(code_point_length(string.text));
      if (!at) return std::nullopt;
      const size_t begin = byte_offset(string.text, *at);
      size_t end = begin;
      (void)next_code_point(string.text, end);
      return runtime.string(string.text.substr(begin, end - begin));
    }
    case Kind::kRange: {
      const auto& range = object.as<RangeObject>();
      const auto at = wrap(range.length);
      if (!at) return std::nullopt;
      return Value(range.start + range.step * *at);
    }
    default:
      return std::nullopt;
  }
}

// obj[key] without the fallback to attributes; nothing where Python raises LookupError or TypeError.
std::optional<Value> plain_item(Runtime& runtime, const Value& object, const Value& key) {
  if (object.is(Kind::kDict)) {
    if (!is_hashable(key)) return std::nullopt;
    const Value* found = object.dict().find(key);
    return found != nullptr ? std::optional<Value>(*found) : std::nullopt;
  }
  if (key.is_integral()) return item_at(runtime, object, key.as_int());
  return std::nullopt;
}

Result<std::optional<Value>> loop_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  auto& loop = object.as<LoopObject>();
  if (name == "index0") return Value(loop.index0);
  if (name == "index") return Value(loop.index0 + 1);
  if (name == "first") return Value(loop.index0 == 0);
  if (name == "depth0") return Value(loop.depth0);
  if (name == "depth") return Value(loop.depth0 + 1);
  if (name == "previtem") {
    return loop.index0 == 0 ? runtime.undefined("there is no previous item") : loop.before;
  }
  if (name == "last" || name == "nextitem") {
    NF_RETURN_IF_ERROR(runtime.peek_next(loop));
    if (name == "last") return Value(loop.exhausted);
    return loop.exhausted ? runtime.undefined("there is no next item") : loop.after;
  }
  if (name == "length" || name == "revindex" || name == "revindex0") {
    NF_TRY(const int64_t length, runtime.loop_length(loop));
    if (name == "length") return Value(length);
    return Value(name == "revindex" ? length - loop.index0 : length - loop.index0 - 1);
  }
  return std::optional<Value>();
}

// getattr(obj, name) without the fallback to items; nothing where there is no such attribute.
Result<std::optional<Value>> plain_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  if (object.is(Kind::kNamespace)) {
    for (const auto& [key, value] : object.as<NamespaceObject>().attributes) {
      if (key == name) return value;
    }
    return std::optional<Value>();
  }
  if (const Method* method = find_method(object, name)) return runtime.bound_method(object, method);
  if (is_forbidden_attribute(object, name)) return runtime.unsafe_undefined(type_name(object), name);
  if (object.is(Kind::kLoop)) return loop_attribute(runtime, object, name);
  if (object.is(Kind::kTuple) && object.as<ListObject>().is_group) {
    if (name == "grouper") return object.items()[0];
    if (name == "list") return object.items()[1];
  }
  if (object.is(Kind::kMacro)) return macro_attribute(runtime, object, name);
  if (object.is(Kind::kCycler) && name == "current") {
    const auto& cycler = object.as<CyclerObject>();
    return cycler.items[cycler.pos];
  }
  return std::optional<Value>();
}

}  // namespace

Result<std::vector<Value>> iterate(Runtime& runtime, const Value& value) {
  std::vector<Value> out;
  switch (value.kind()) {
    case Kind::kList:
    case Kind::kTuple:
      runtime.work(value.items().size() * 16);
      return value.items();
    case Kind::kUndefined:
      return out;
    case Kind::kString: {
      const std::string& text = value.text();
      NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(text.size()) * 16));
      for (size_t pos = 0; pos < text.size();) {
        const size_t begin = pos;
        (void)next_code_point(text, pos);
        out.push_back(runtime.string(text.substr(begin, pos - begin)));
        NF_RETURN_IF_ERROR(runtime.check());
      }
      return out;
    }
    case Kind::kDict:
      runtime.work(value.dict().entries.size() * 16);
      for (const auto& entry : value.dict().entries) out.push_back(entry.first);
      return out;
    case Kind::kDictView: {
      const auto& view = value.as<DictViewObject>();
      runtime.work(view.dict.dict().entries.size() * 64);
      for (const auto& [key, item] : view.dict.dict().entries) {
        out.push_back(view.view == DictViewKind::kKeys     ? key
                      : view.view == DictViewKind::kValues ? item
                                                           : runtime.pair(key, item));
      }
      return out;
    }
    case Kind::kRange: {
      const auto& range = value.as<RangeObject>();
      runtime.work(static_cast<size_t>(range.length) * 16);
      for (int64_t i = 0; i < range.length; ++i) out.emplace_back(range.start + range.step * i);
      return out;
    }
    case Kind::kIterator: {
      auto& iterator = value.as<IteratorObject>();
      out.assign(iterator.items.begin() + static_cast<std::ptrdiff_t>(iterator.next), iterator.items.end());
      iterator.next = iterator.items.size();
      return out;
    }
    default:
      return type_error("'" + std::string(type_name(value)) + "' object is not iterable");
  }
}

Result<int64_t> length_of(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString: {
      const auto& string = value.as<StringObject>();
      return string.ascii ? static_cast<int64_t>(string.text.size()) : code_point_length(string.text);
    }
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<int64_t>(value.items().size());
    case Kind::kDict:
      return static_cast<int64_t>(value.dict().entries.size());
    case Kind::kDictView:
      return static_cast<int64_t>(value.as<DictViewObject>().dict.dict().entries.size());
    case Kind::kRange:
      return value.as<RangeObject>().length;
    default:
      return type_error("object of type '" + std::string(type_name(value)) + "' has no len()");
  }
}

Result<Value> get_item(Runtime& runtime, const Value& object, const Value& key) {
  if (object.is_undefined()) return undefined_error(object);
  if (auto item = plain_item(runtime, object, key)) return std::move(*item);
  if (key.is_string()) {
    NF_TRY(auto attribute, plain_attribute(runtime, object, key.text()));
    if (attribute) return std::move(*attribute);
  }
  return missing_item(runtime, object, key);
}

Result<Value> get_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  if (object.is_undefined()) return undefined_error(object);
  // A dict has no attributes but its methods, and most lookups are of keys.
  NF_TRY(auto attribute, plain_attribute(runtime, object, name));
  if (attribute) return std::move(*attribute);
  if (object.is(Kind::kDict)) {
    if (const Value* found = object.dict().find(name)) return *found;
  }
  return missing_attribute(runtime, object, name);
}

Result<Value> get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                        const Value& step) {
  if (object.is_undefined()) return undefined_error(object);
  if (!object.is_string() && !object.is_sequence() && !object.is(Kind::kRange)) {
    return type_error("'" + std::string(type_name(object)) + "' object is not subscriptable with a slice");
  }
  for (const Value* bound : {&start, &stop, &step}) {
    if (!bound->is_none() && !bound->is_integral()) {
      return type_error("slice indices must be integers or None or have an __index__ method");
    }
  }
  Int stride = step.is_none() ? Int{1} : step.as_int();
  if (stride == 0) return type_error("slice step cannot be zero");
  NF_TRY(const int64_t length, length_of(object));
  // A longer stride takes the same items.
  stride = std::clamp(stride, -Int{length} - 1, Int{length} + 1);
  runtime.work(static_cast<size_t>(length));
  const auto clamp = [&](const Value& bound, Int when_absent) -> Int {
    if (bound.is_none()) return when_absent;
    Int index = bound.as_int();
    if (index < 0) index += length;
    if (stride > 0) return std::clamp(index, Int{0}, Int{length});
    return std::clamp(index, Int{-1}, Int{length} - 1);
  };
  const Int first = clamp(start, stride > 0 ? Int{0} : Int{length} - 1);
  const Int end = clamp(stop, stride > 0 ? Int{length} : Int{-1});

  if (object.is_string()) {
    const auto& string = object.as<StringObject>();
    std::string out;
    if (stride == 1) {
      const size_t begin =
          string.ascii ? static_cast<size_t>(first) : byte_offset(string.text, static_cast<int64_t>(first));
      const Int count = std::max(end - first, Int{0});
      const size_t size = string.ascii ? static_cast<size_t>(count)
                                       : byte_offset(std::string_view(string.text).substr(begin),
                                                     static_cast<int64_t>(count));
      out = string.text.substr(begin, size);
    } else {
      std::vector<size_t> offsets;
      for (size_t pos = 0; pos < string.text.size();) {
        offsets.push_back(pos);
        (void)next_code_point(string.text, pos);
      }
      offsets.push_back(string.text.size());
      for (Int i = first; stride > 0 ? i < end : i > end; i += stride) {
        const auto at = static_cast<size_t>(i);
        out += string.text.substr(offsets[at], offsets[at + 1] - offsets[at]);
      }
    }
    return string.markup ? runtime.markup(std::move(out)) : runtime.string(std::move(out));
  }
  std::vector<Value> items;
  if (object.is(Kind::kRange)) {
    const auto& range = object.as<RangeObject>();
    if (range.step > INT64_MAX || range.step < INT64_MIN) return type_error("the range's step is too large");
    const Int count = stride > 0 ? (end > first ? (end - first + stride - 1) / stride : Int{0})
                                 : (first > end ? (first - end - stride - 1) / -stride : Int{0});
    auto sliced =
        std::make_shared<RangeObject>(range.start + first * range.step, range.start + end * range.step,
                                      range.step * stride, static_cast<int64_t>(count));
    runtime.adopt(*sliced, sizeof(RangeObject), 1);
    return Value(std::move(sliced));
  }
  for (Int i = first; stride > 0 ? i < end : i > end; i += stride) {
    items.push_back(object.items()[static_cast<size_t>(i)]);
  }
  return object.is(Kind::kList) ? runtime.list(std::move(items)) : runtime.tuple(std::move(items));
}

}  // namespace nemoforge::text::jinja
