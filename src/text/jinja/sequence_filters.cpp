// The filters on sequences (callables.h). Where Jinja returns a generator, so do these: it has no length, and
// what has been taken from it is gone.
#include <algorithm>
#include <set>

#include "text/jinja/callables.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace nemoforge::text::jinja {
namespace {

// Lower case for strings, so that comparisons ignore it.
Value ignore_case(Runtime& runtime, const Value& value) {
  if (!value.is_string()) return value;
  runtime.work(value.text().size() * 4);
  return runtime.string(to_lower(value.text()));
}

// The path that an `attribute` argument names: "a.b.0", or a plain index.
struct AttributePath {
  std::vector<Value> parts;
  Value when_undefined;  // None: what is undefined stays so

  [[nodiscard]] Result<Value> get(Runtime& runtime, Value item) const {
    for (const Value& part : parts) {
      NF_TRY(item, get_item(runtime, item, part));
      if (!when_undefined.is_none() && item.is_undefined()) item = when_undefined;
    }
    return item;
  }
};

Result<AttributePath> make_path(Runtime& runtime, const Value& attribute, Value when_undefined = {}) {
  AttributePath path;
  path.when_undefined = std::move(when_undefined);
  if (attribute.is_none()) return path;
  if (!attribute.is_string()) {
    path.parts.push_back(attribute);
    return path;
  }
  const std::string& text = attribute.text();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const bool is_number =
        !part.empty() && part.size() < 19 && part.find_first_not_of("0123456789") == std::string::npos;
    path.parts.push_back(is_number ? Value(static_cast<int64_t>(std::stoll(part))) : runtime.string(part));
    begin = end + 1;
  }
  return path;
}

// Sorts stably by key with Python's `<`, whose failure ends it; a merge sort, since std::sort may not meet
// one.
Status merge_sort(Runtime& runtime, std::vector<std::pair<Value, Value>>& items, bool reverse) {
  std::vector<std::pair<Value, Value>> merged;
  for (size_t width = 1; width < items.size(); width *= 2) {
    merged.clear();
    merged.reserve(items.size());
    for (size_t low = 0; low < items.size(); low += 2 * width) {
      const size_t middle = std::min(low + width, items.size());
      const size_t high = std::min(low + 2 * width, items.size());
      size_t left = low;
      size_t right = middle;
      while (left < middle && right < high) {
        runtime.work(16);
        NF_RETURN_IF_ERROR(runtime.check());
        NF_TRY(const bool right_first, reverse ? less_than(runtime, items[left].first, items[right].first)
                                               : less_than(runtime, items[right].first, items[left].first));
        merged.push_back(std::move(right_first ? items[right++] : items[left++]));
      }
      while (left < middle) merged.push_back(std::move(items[left++]));
      while (right < high) merged.push_back(std::move(items[right++]));
    }
    items.swap(merged);
  }
  return {};
}

std::vector<Value> values_of(std::vector<std::pair<Value, Value>> keyed) {
  std::vector<Value> out;
  out.reserve(keyed.size());
  for (auto& entry : keyed) out.push_back(std::move(entry.second));
  return out;
}

// The `reverse` of a sort, for which Python wants a number.
Result<bool> is_reversed(const Value& reverse) {
  if (reverse.is_integral()) return reverse.as_int() != 0;
  return type_error("'" + std::string(type_name(reverse)) + "' object cannot be interpreted as an integer");
}

Result<Value> length(Runtime&, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("length", arguments, {}));
  NF_TRY(const int64_t count, length_of(value));
  return Value(count);
}

Result<Value> first(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("first", arguments, {}));
  if (value.is(Kind::kIterator)) {
    auto& iterator = value.as<IteratorObject>();
    if (iterator.next < iterator.items.size()) return iterator.items[iterator.next++];
    return runtime.undefined("No first item, sequence was empty.");
  }
  if (value.is_string() && !value.text().empty()) return get_item(runtime, value, Value(0));
  NF_TRY(const auto items, iterate(runtime, value));
  return items.empty() ? runtime.undefined("No first item, sequence was empty.") : items.front();
}

Result<Value> last(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("last", arguments, {}));
  if (value.is(Kind::kIterator)) return type_error("'generator' object is not reversible");
  if (value.is_string() && !value.text().empty()) return get_item(runtime, value, Value(-1));
  NF_TRY(const auto items, iterate(runtime, value));
  return items.empty() ? runtime.undefined("No last item, sequence was empty.") : items.back();
}

Result<Value> list(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("list", arguments, {}));
  NF_TRY(auto items, iterate(runtime, value));
  return runtime.list(std::move(items));
}

Result<Value> join(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("join", arguments, {"d", "attribute"}));
  NF_TRY(const std::string separator, args.has(0) ? to_text(runtime, args.get(0)) : Result<std::string>(""));
  NF_TRY(const AttributePath path, make_path(runtime, args.get(1)));
  NF_TRY(const auto items, iterate(runtime, value));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += separator;
    NF_TRY(const Value item, path.get(runtime, items[i]));
    NF_TRY(const std::string text, to_text(runtime, item));
    out += text;
    NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(out.size())));
  }
  return runtime.string(std::move(out));
}

Result<Value> reverse(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("reverse", arguments, {}));
  if (value.is_string()) return get_slice(runtime, value, Value(), Value(), Value(-1));
  if (value.is(Kind::kNone) || value.is_number()) return type_error("argument must be iterable");
  const bool was_iterator = value.is(Kind::kIterator);
  NF_TRY(auto items, iterate(runtime, value));
  std::reverse(items.begin(), items.end());
  return was_iterator ? runtime.list(std::move(items)) : runtime.iterator(std::move(items));
}

Result<Value> items_filter(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("items", arguments, {}));
  if (value.is_undefined()) return runtime.iterator({});
  if (!value.is(Kind::kDict)) return type_error("Can only get item pairs from a mapping.");
  NF_TRY(auto pairs, iterate(runtime, runtime.dict_view(value, DictViewKind::kItems)));
  return runtime.iterator(std::move(pairs));
}

Result<Value> dict_sort(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("dictsort", arguments, {"case_sensitive", "by", "reverse"}));
  NF_TRY(const auto by_text, args.get_text(1, "by"));
  const std::string by = by_text.value_or("key");
  if (by != "key" && by != "value") return type_error("You can only sort by either \"key\" or \"value\"");
  if (value.is_undefined()) return undefined_error(value);
  if (!value.is(Kind::kDict))
    return type_error("dictsort wants a mapping, not " + std::string(type_name(value)));
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, item] : value.dict().entries) {
    const Value& by_value = by == "key" ? key : item;
    keyed.emplace_back(is_true(args.get(0)) ? by_value : ignore_case(runtime, by_value),
                       runtime.pair(key, item));
  }
  NF_TRY(const bool reverse, is_reversed(args.get(2, Value(false))));
  NF_RETURN_IF_ERROR(merge_sort(runtime, keyed, reverse));
  return runtime.list(values_of(std::move(keyed)));
}

Result<Value> sort(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("sort", arguments, {"reverse", "case_sensitive", "attribute"}));
  const bool case_sensitive = is_true(args.get(1));
  std::vector<AttributePath> paths;
  const Value& attribute = args.get(2);
  if (attribute.is_string()) {
    const std::string& text = attribute.text();
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      NF_TRY(auto path, make_path(runtime, runtime.string(text.substr(begin, end - begin))));
      paths.push_back(std::move(path));
      begin = end + 1;
    }
  } else {
    NF_TRY(auto path, make_path(runtime, attribute));
    paths.push_back(std::move(path));
  }
  NF_TRY(auto items, iterate(runtime, value));
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : items) {
    std::vector<Value> key;
    for (const AttributePath& path : paths) {
      NF_TRY(Value part, path.get(runtime, item));
      key.push_back(case_sensitive ? part : ignore_case(runtime, part));
    }
    keyed.emplace_back(runtime.list(std::move(key)), std::move(item));
    NF_RETURN_IF_ERROR(runtime.check());
  }
  NF_TRY(const bool reverse, is_reversed(args.get(0, Value(false))));
  NF_RETURN_IF_ERROR(merge_sort(runtime, keyed, reverse));
  return runtime.list(values_of(std::move(keyed)));
}

struct KeyLess {
  bool operator()(const Value& a, const Value& b) const { return compare_keys(a, b) < 0; }
};

Result<Value> unique(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("unique", arguments, {"case_sensitive", "attribute"}));
  NF_TRY(const AttributePath path, make_path(runtime, args.get(1)));
  NF_TRY(auto items, iterate(runtime, value));
  std::set<Value, KeyLess> seen;
  std::vector<Value> out;
  for (Value& item : items) {
    NF_TRY(Value key, path.get(runtime, item));
    if (!is_true(args.get(0))) key = ignore_case(runtime, key);
    if (!is_hashable(key)) return type_error("unhashable type: '" + std::string(type_name(key)) + "'");
    runtime.work(64);
    NF_RETURN_IF_ERROR(runtime.check());
    if (seen.insert(std::move(key)).second) out.push_back(std::move(item));
  }
  return runtime.iterator(std::move(out));
}

template <bool kMax>
Result<Value> extreme(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind(kMax ? "max" : "min", arguments, {"case_sensitive", "attribute"}));
  NF_TRY(const AttributePath path, make_path(runtime, args.get(1)));
  NF_TRY(auto items, iterate(runtime, value));
  if (items.empty()) return runtime.undefined("No aggregated item, sequence was empty.");
  Value best;
  Value best_key;
  for (size_t i = 0; i < items.size(); ++i) {
    NF_TRY(Value key, path.get(runtime, items[i]));
    if (!is_true(args.get(0))) key = ignore_case(runtime, key);
    bool better = i == 0;
    if (i > 0) {
      NF_TRY(better, kMax ? less_than(runtime, best_key, key, ">") : less_than(runtime, key, best_key));
    }
    if (!better) continue;
    best = items[i];
    best_key = std::move(key);
  }
  return best;
}

Result<Value> sum(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("sum", arguments, {"attribute", "start"}));
  NF_TRY(const AttributePath path, make_path(runtime, args.get(0)));
  Value total = args.get(1, Value(0));
  if (total.is_string()) return type_error("sum() can't sum strings [use ''.join(seq) instead]");
  NF_TRY(const auto items, iterate(runtime, value));
  for (const Value& item : items) {
    NF_TRY(const Value term, path.get(runtime, item));
    NF_TRY(total, apply_binary(runtime, BinaryOperator::kAdd, total, term));
    NF_RETURN_IF_ERROR(runtime.check());
  }
  return total;
}

Result<Value> batch(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("batch", arguments, {"linecount", "fill_with"}, 1));
  NF_TRY(const int64_t size, args.get_int(0, "linecount", 0));
  NF_TRY(auto items, iterate(runtime, value));
  std::vector<Value> out;
  std::vector<Value> line;
  for (Value& item : items) {
    if (static_cast<int64_t>(line.size()) == size) out.push_back(runtime.list(std::exchange(line, {})));
    line.push_back(std::move(item));
  }
  if (!line.empty()) {
    if (!args.get(1).is_none() && static_cast<int64_t>(line.size()) < size) {
      NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(size) * static_cast<Int>(sizeof(Value))));
      line.resize(static_cast<size_t>(size), args.get(1));
    }
    out.push_back(runtime.list(std::move(line)));
  }
  return runtime.iterator(std::move(out));
}

Result<Value> slice(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("slice", arguments, {"slices", "fill_with"}, 1));
  NF_TRY(const int64_t num_slices, args.get_int(0, "slices", 0));
  NF_TRY(auto items, iterate(runtime, value));
  if (num_slices == 0) return type_error("integer division or modulo by zero");
  if (num_slices < 0) return runtime.iterator({});
  NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(num_slices) * static_cast<Int>(sizeof(ListObject))));
  const auto num_items = static_cast<int64_t>(items.size());
  const int64_t per_slice = num_items / num_slices;
  const int64_t num_longer = num_items % num_slices;
  std::vector<Value> out;
  auto next = items.begin();
  for (int64_t i = 0; i < num_slices; ++i) {
    const int64_t size = per_slice + (i < num_longer ? 1 : 0);
    std::vector<Value> column(next, next + size);
    next += size;
    if (!args.get(1).is_none() && i >= num_longer) column.push_back(args.get(1));
    out.push_back(runtime.list(std::move(column)));
  }
  return runtime.iterator(std::move(out));
}

Result<Value> group_by(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1));
  NF_TRY(const AttributePath path, make_path(runtime, args.get(0), args.get(1)));
  const bool case_sensitive = is_true(args.get(2));
  NF_TRY(auto items, iterate(runtime, value));
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : items) {
    NF_TRY(Value key, path.get(runtime, item));
    keyed.emplace_back(case_sensitive ? key : ignore_case(runtime, key), std::move(item));
    NF_RETURN_IF_ERROR(runtime.check());
  }
  NF_RETURN_IF_ERROR(merge_sort(runtime, keyed, false));
  std::vector<Value> groups;
  for (size_t begin = 0; begin < keyed.size();) {
    std::vector<Value> members;
    size_t end = begin;
    while (end < keyed.size() && equals(runtime, keyed[begin].first, keyed[end].first)) {
      members.push_back(keyed[end++].second);
    }
    if (end == begin) members.push_back(keyed[end++].second);  // nan equals nothing, itself included
    Value key = keyed[begin].first;
    if (!case_sensitive) {
      NF_TRY(key, path.get(runtime, members[0]));
    }
    Value group = runtime.pair(std::move(key), runtime.list(std::move(members)));
    group.as<ListObject>().is_group = true;
    groups.push_back(std::move(group));
    begin = end;
  }
  return runtime.list(std::move(groups));
}

Result<Value> map(Runtime& runtime, const Value& value, Arguments& arguments) {
  if (!is_true(value)) return runtime.iterator({});
  NF_TRY(auto items, iterate(runtime, value));
  std::vector<Value> out;
  out.reserve(items.size());
  if (arguments.positional.empty()) {
    NF_TRY(auto args, bind("map", arguments, {"attribute", "default"}));
    if (!args.has(0)) return type_error("map requires a filter argument");
    NF_TRY(const AttributePath path, make_path(runtime, args.get(0), args.get(1)));
    for (Value& item : items) {
      NF_TRY(Value mapped, path.get(runtime, std::move(item)));
      out.push_back(std::move(mapped));
    }
    return runtime.iterator(std::move(out));
  }
  const Value name = arguments.positional[0];
  const Filter* filter = name.is_string() ? find_filter(name.text()) : nullptr;
  if (items.empty()) return runtime.iterator({});
  if (filter == nullptr) {
    NF_TRY(const std::string repr, to_repr(runtime, name));
    return error(ErrorCode::kUnsupported, "unknown filter " + repr);
  }
  arguments.positional.erase(arguments.positional.begin());
  for (const Value& item : items) {
    Arguments each = arguments;
    NF_TRY(Value mapped, filter->apply(runtime, item, each));
    out.push_back(std::move(mapped));
    NF_RETURN_IF_ERROR(runtime.check());
  }
  return runtime.iterator(std::move(out));
}

// select, reject, selectattr and rejectattr: items, or an attribute of theirs, that meet a test.
template <bool kByAttribute, bool kReject>
Result<Value> select(Runtime& runtime, const Value& value, Arguments& arguments) {
  if (!is_true(value)) return runtime.iterator({});
  AttributePath path;
  if (kByAttribute) {
    if (arguments.positional.empty()) return type_error("Missing parameter for attribute name");
    NF_TRY(path, make_path(runtime, arguments.positional[0]));
    arguments.positional.erase(arguments.positional.begin());
  }
  NF_TRY(auto items, iterate(runtime, value));
  const Test* test = nullptr;
  const bool has_test = !arguments.positional.empty();
  if (has_test) {
    const Value name = arguments.positional[0];
    test = name.is_string() ? find_test(name.text()) : nullptr;
    if (test == nullptr && !items.empty()) {
      NF_TRY(const std::string repr, to_repr(runtime, name));
      return error(ErrorCode::kUnsupported, "unknown test " + repr);
    }
    arguments.positional.erase(arguments.positional.begin());
  }
  std::vector<Value> out;
  for (Value& item : items) {
    NF_TRY(const Value tested, path.get(runtime, item));
    bool holds = is_true(tested);
    if (test != nullptr) {
      Arguments each = arguments;
      NF_TRY(holds, test->holds(runtime, tested, each));
    }
    if (holds != kReject) out.push_back(std::move(item));
    NF_RETURN_IF_ERROR(runtime.check());
  }
  return runtime.iterator(std::move(out));
}

// Sorted by name.
constexpr Filter kFilters[] = {
    {"batch", batch},
    {"count", length},
    {"dictsort", dict_sort},
    {"first", first},
    {"groupby", group_by},
    {"items", items_filter},
    {"join", join},
    {"last", last},
    {"length", length},
    {"list", list},
    {"map", map},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", select<false, true>},
    {"rejectattr", select<true, true>},
    {"reverse", reverse},
    {"select", select<false, false>},
    {"selectattr", select<true, false>},
    {"slice", slice},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};

}  // namespace

std::span<const Filter> sequence_filters() {
  return kFilters;
}

}  // namespace nemoforge::text::jinja
