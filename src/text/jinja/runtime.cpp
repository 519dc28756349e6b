#include "text/jinja/runtime.h"

#include <algorithm>
#include <numeric>

namespace nemoforge::text::jinja {
namespace {

constexpr size_t kLinearEntries = 12;

int depth_over(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth + 1;
}

// Drops the entries whose key an earlier one has, which takes their value; fills by_key where there are many.
void make_keys_unique(DictObject& dict) {
  auto& entries = dict.entries;
  if (entries.size() <= kLinearEntries) {
    for (size_t i = 1; i < entries.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (compare_keys(entries[i].first, entries[j].first) != 0) continue;
        entries[j].second = std::move(entries[i].second);
        entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(i));
        --i;
        break;
      }
    }
    return;
  }
  std::vector<uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return compare_keys(entries[a].first, entries[b].first) < 0;
  });
  std::vector<bool> dropped(entries.size(), false);
  bool any_dropped = false;
  for (size_t i = 1, first = 0; i < order.size(); ++i) {
    if (compare_keys(entries[order[i]].first, entries[order[first]].first) == 0) {
      entries[order[first]].second = std::move(entries[order[i]].second);
      dropped[order[i]] = any_dropped = true;
    } else {
      first = i;
    }
  }
  if (any_dropped) {
    size_t kept = 0;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (dropped[i]) continue;
      if (kept != i) entries[kept] = std::move(entries[i]);
      ++kept;
    }
    entries.resize(kept);
    make_keys_unique(dict);
    return;
  }
  dict.by_key = std::move(order);
}

}  // namespace

Runtime::~Runtime() {
  // Every object here is kept alive by the list until all are empty, so that no destructor recurses through
  // a chain of namespaces.
  for (const auto& object : cyclic_) {
    if (object->kind == Kind::kNamespace) {
      static_cast<NamespaceObject&>(*object).attributes.clear();
    } else {
      static_cast<LoopObject&>(*object).changed_value.clear();
    }
  }
}

tl::unexpected<Error> Runtime::exhausted() const {
  if (meter_.too_deep) {
    return error(ErrorCode::kResourceExhausted,
                 "a value is nested deeper than " + std::to_string(limits_.max_value_depth) + " levels");
  }
  if (meter_.steps > limits_.max_steps) {
    return error(ErrorCode::kResourceExhausted,
                 "the template takes more than " + std::to_string(limits_.max_steps) + " steps");
  }
  return error(ErrorCode::kResourceExhausted, "the template's values take more than " +
                                                  std::to_string(limits_.max_live_bytes >> 20) + " MiB");
}

Status Runtime::check_size(Int bytes) const {
  if (bytes <= limits_.max_output_bytes) return {};
  return error(ErrorCode::kResourceExhausted, "a text or list would be larger than " +
                                                  std::to_string(limits_.max_output_bytes >> 20) + " MiB");
}

void Runtime::adopt(Object& object, size_t bytes, int depth) {
  object.meter = &meter_;
  object.charged_bytes = static_cast<int64_t>(bytes);
  object.depth = depth;
  meter_.live_bytes += object.charged_bytes;
  meter_.steps += object.charged_bytes / 64;
  if (depth > limits_.max_value_depth) meter_.too_deep = true;
}

Value Runtime::string(std::string text) {
  auto object = std::make_shared<StringObject>(std::move(text));
  adopt(*object, sizeof(StringObject) + object->text.size(), 1);
  return Value(std::move(object));
}

Value Runtime::markup(std::string text) {
  Value value = string(std::move(text));
  value.as<StringObject>().markup = true;
  return value;
}

Value Runtime::sequence(Kind kind, std::vector<Value> items) {
  auto object = std::make_shared<ListObject>(kind, std::move(items));
  adopt(*object, sizeof(ListObject) + object->items.size() * sizeof(Value), depth_over(object->items));
  return Value(std::move(object));
}

Value Runtime::pair(Value first, Value second) {
  std::vector<Value> items;
  items.reserve(2);
  items.push_back(std::move(first));
  items.push_back(std::move(second));
  return tuple(std::move(items));
}

Value Runtime::iterator(std::vector<Value> items) {
  auto object = std::make_shared<IteratorObject>(std::move(items));
  adopt(*object, sizeof(IteratorObject) + object->items.size() * sizeof(Value), depth_over(object->items));
  return Value(std::move(object));
}

Value Runtime::dict(std::vector<std::pair<Value, Value>> entries) {
  auto object = std::make_shared<DictObject>();
  object->entries = std::move(entries);
  make_keys_unique(*object);
  int depth = 0;
  for (const auto& [key, value] : object->entries) depth = std::max({depth, key.depth(), value.depth()});
  adopt(*object, sizeof(DictObject) + object->entries.size() * 2 * sizeof(Value), depth + 1);
  return Value(std::move(object));
}

Value Runtime::undefined(std::string hint) {
  auto object = std::make_shared<UndefinedObject>();
  object->hint = std::move(hint);
  adopt(*object, sizeof(UndefinedObject) + object->hint.size(), 1);
  return Value(std::move(object));
}

Value Runtime::unsafe_undefined(std::string_view type, std::string_view attribute) {
  Value value = undefined("access to attribute '" + std::string(attribute) + "' of '" + std::string(type) +
                          "' object is unsafe.");
  value.as<UndefinedObject>().unsafe = true;
  return value;
}

Value Runtime::dict_view(const Value& dict, DictViewKind view) {
  auto object = std::make_shared<DictViewObject>(dict, view);
  adopt(*object, sizeof(DictViewObject), dict.depth() + 1);
  return Value(std::move(object));
}

Value Runtime::bound_method(const Value& self, const Method* method) {
  auto object = std::make_shared<MethodObject>(self, method);
  adopt(*object, sizeof(MethodObject), self.depth() + 1);
  return Value(std::move(object));
}

Value Runtime::name_space(std::vector<std::pair<std::string, Value>> attributes) {
  auto object = std::make_shared<NamespaceObject>();
  object->attributes = std::move(attributes);
  // Depth 0: what is reached through a namespace is destroyed by ~Runtime, not by recursion.
  adopt(*object, sizeof(NamespaceObject), 0);
  Value value(std::move(object));
  watch_for_cycles(value);
  return value;
}

void Runtime::watch_for_cycles(const Value& value) {
  cyclic_.push_back(value.shared());
}

}  // namespace nemoforge::text::jinja
