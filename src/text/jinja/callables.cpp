#include "text/jinja/callables.h"

#include <algorithm>
#include <array>
#include <ctime>

#include "text/jinja/ast.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"

namespace nemoforge::text::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // of the sandbox

Result<Value> raise_exception(Runtime& runtime, Arguments& arguments) {
  NF_TRY(auto args, bind("raise_exception", arguments, {"message"}, 1));
  NF_TRY(std::string message, to_text(runtime, args.get(0)));
  return error(ErrorCode::kInvalidArgument, std::move(message));
}

Result<Value> strftime_now(Runtime& runtime, Arguments& arguments) {
  NF_TRY(auto args, bind("strftime_now", arguments, {"format"}, 1));
  NF_TRY(const auto format, args.get_text(0, "format"));
  if (!format) return type_error("strftime() argument 1 must be str, not None");
  if (format->size() > 4096) return type_error("strftime_now: the format is too long");
  std::timespec now{};
  (void)std::timespec_get(&now, TIME_UTC);
  std::tm local{};
  localtime_r(&now.tv_sec, &local);
  // As datetime.strftime: %f is microseconds, and a time without zone has neither %z nor %Z.
  std::string adapted;
  for (size_t i = 0; i < format->size(); ++i) {
    if ((*format)[i] != '%' || i + 1 == format->size()) {
      adapted += (*format)[i];
      continue;
    }
    const char directive = (*format)[++i];
    if (directive == 'f') {
      std::string micros = std::to_string(now.tv_nsec / 1000);
      adapted += std::string(6 - micros.size(), '0') + micros;
    } else if (directive != 'z' && directive != 'Z') {
      adapted += '%';
      adapted += directive;
    }
  }
  if (adapted.empty()) return runtime.string("");
  std::string out(adapted.size() * 64 + 256, '\0');
  out.resize(std::strftime(out.data(), out.size(), adapted.c_str(), &local));
  return runtime.string(std::move(out));
}

Result<Value> make_range(Runtime& runtime, Arguments& arguments) {
  if (!arguments.keyword.empty()) return type_error("range() takes no keyword arguments");
  const auto& args = arguments.positional;
  if (args.empty() || args.size() > 3) {
    return type_error("range expected 1 to 3 arguments, got " + std::to_string(args.size()));
  }
  std::array<int64_t, 3> bounds = {0, 0, 1};
  for (size_t i = 0; i < args.size(); ++i) {
    NF_TRY(bounds[args.size() == 1 ? 1 : i], to_index(args[i], "range"));
  }
  const Int start = bounds[0];
  const Int stop = bounds[1];
  const Int step = bounds[2];
  if (step == 0) return type_error("range() arg 3 must not be zero");
  const Int length = step > 0 ? (stop > start ? (stop - start + step - 1) / step : Int{0})
                              : (start > stop ? (start - stop - step - 1) / -step : Int{0});
  if (length > kMaxRange) {
    return type_error("Range too big. The sandbox blocks ranges larger than MAX_RANGE (" +
                      std::to_string(kMaxRange) + ").");
  }
  auto range = std::make_shared<RangeObject>(start, stop, step, static_cast<int64_t>(length));
  runtime.adopt(*range, sizeof(RangeObject), 1);
  return Value(std::move(range));
}

// The entries that dict(...) and namespace(...) make of their arguments.
Result<std::vector<std::pair<Value, Value>>> dict_entries(Runtime& runtime, Arguments& arguments) {
  std::vector<std::pair<Value, Value>> entries;
  if (arguments.positional.size() > 1) return type_error("dict expected at most 1 argument");
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is_undefined()) return undefined_error(source);
    if (source.is(Kind::kDict)) {
      entries = source.dict().entries;
    } else {
      NF_TRY(const auto pairs, iterate(runtime, source));
      for (const Value& pair : pairs) {
        NF_TRY(auto both, iterate(runtime, pair));
        if (both.size() != 2) {
          return type_error("dictionary update sequence element has length " + std::to_string(both.size()) +
                            "; 2 is required");
        }
        if (!is_hashable(both[0]))
          return type_error("unhashable type: '" + std::string(type_name(both[0])) + "'");
        entries.emplace_back(std::move(both[0]), std::move(both[1]));
      }
    }
  }
  for (auto& [name, value] : arguments.keyword) entries.emplace_back(runtime.string(name), std::move(value));
  return entries;
}

Result<Value> make_dict(Runtime& runtime, Arguments& arguments) {
  NF_TRY(auto entries, dict_entries(runtime, arguments));
  return runtime.dict(std::move(entries));
}

Result<Value> make_namespace(Runtime& runtime, Arguments& arguments) {
  NF_TRY(auto entries, dict_entries(runtime, arguments));
  const Value unique = runtime.dict(std::move(entries));
  std::vector<std::pair<std::string, Value>> attributes;
  for (const auto& [key, value] : unique.dict().entries) {
    NF_TRY(std::string name, to_text(runtime, key));
    attributes.emplace_back(std::move(name), value);
  }
  return runtime.name_space(std::move(attributes));
}

Result<Value> make_cycler(Runtime& runtime, Arguments& arguments) {
  if (!arguments.keyword.empty()) return type_error("cycler() takes no keyword arguments");
  if (arguments.positional.empty()) return type_error("at least one item has to be provided");
  int depth = 0;
  for (const Value& item : arguments.positional) depth = std::max(depth, item.depth());
  auto cycler = std::make_shared<CyclerObject>(std::move(arguments.positional));
  runtime.adopt(*cycler, sizeof(CyclerObject) + cycler->items.size() * sizeof(Value), depth + 1);
  return Value(std::move(cycler));
}

Result<Value> make_joiner(Runtime& runtime, Arguments& arguments) {
  NF_TRY(auto args, bind("joiner", arguments, {"sep"}));
  NF_TRY(auto separator, args.get_text(0, "sep"));
  auto joiner = std::make_shared<JoinerObject>(separator.value_or(", "));
  runtime.adopt(*joiner, sizeof(JoinerObject), 1);
  return Value(std::move(joiner));
}

constexpr Function kFunctions[] = {
    {"cycler", make_cycler},
    {"dict", make_dict},
    {"joiner", make_joiner},
    {"namespace", make_namespace},
    {"raise_exception", raise_exception},
    {"range", make_range},
    {"strftime_now", strftime_now},
};

Result<Value> dict_get(Runtime&, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("get", arguments, {"key", "default"}, 1));
  if (!is_hashable(args.get(0))) {
    return type_error("unhashable type: '" + std::string(type_name(args.get(0))) + "'");
  }
  const Value* found = self.dict().find(args.get(0));
  return found != nullptr ? *found : args.get(1);
}

template <DictViewKind kView>
Result<Value> dict_view(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("dict view", arguments, {}));
  return runtime.dict_view(self, kView);
}

Result<Value> copy(Runtime&, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("copy", arguments, {}));
  return self;  // lists and dicts never change
}

Result<Value> sequence_count(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("count", arguments, {"value"}, 1));
  int64_t count = 0;
  for (const Value& item : self.items()) count += equals(runtime, item, args.get(0)) ? 1 : 0;
  return Value(count);
}

Result<Value> sequence_index(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("index", arguments, {"value", "start", "stop"}, 1));
  const auto size = static_cast<int64_t>(self.items().size());
  NF_TRY(int64_t start, args.get_int(1, "start", 0));
  NF_TRY(int64_t stop, args.get_int(2, "stop", size));
  if (start < 0) start = std::max<int64_t>(start + size, 0);
  if (stop < 0) stop += size;
  for (int64_t i = start; i < std::min(stop, size); ++i) {
    if (equals(runtime, self.items()[static_cast<size_t>(i)], args.get(0))) return Value(i);
  }
  NF_TRY(const std::string repr, to_repr(runtime, args.get(0)));
  return type_error(repr + " is not in " + std::string(type_name(self)));
}

Result<Value> is_integer(Runtime&, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("is_integer", arguments, {}));
  const double value = self.as_double();
  return Value(value - static_cast<double>(static_cast<int64_t>(value)) == 0.0 || value >= 9e15 ||
               value <= -9e15);
}

Result<Value> cycler_next(Runtime&, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("next", arguments, {}));
  auto& cycler = self.as<CyclerObject>();
  Value current = cycler.items[cycler.pos];
  cycler.pos = (cycler.pos + 1) % cycler.items.size();
  return current;
}

Result<Value> cycler_reset(Runtime&, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("reset", arguments, {}));
  self.as<CyclerObject>().pos = 0;
  const Value none;
  return none;
}

Result<Value> loop_cycle(Runtime&, const Value& self, Arguments& arguments) {
  if (arguments.positional.empty() || !arguments.keyword.empty())
    return type_error("no items for cycling given");
  const auto index0 = static_cast<size_t>(std::max<int64_t>(self.as<LoopObject>().index0, 0));
  return arguments.positional[index0 % arguments.positional.size()];
}

Result<Value> loop_changed(Runtime& runtime, const Value& self, Arguments& arguments) {
  if (!arguments.keyword.empty()) return type_error("changed() takes no keyword arguments");
  auto& loop = self.as<LoopObject>();
  bool same = loop.has_changed_value && loop.changed_value.size() == arguments.positional.size();
  for (size_t i = 0; same && i < loop.changed_value.size(); ++i) {
    same = equals(runtime, loop.changed_value[i], arguments.positional[i]);
  }
  if (same) return Value(false);
  if (!loop.has_changed_value) runtime.watch_for_cycles(self);
  loop.has_changed_value = true;
  loop.changed_value = std::move(arguments.positional);
  return Value(true);
}

constexpr Method kDictMethods[] = {
    {"copy", copy},
    {"get", dict_get},
    {"items", dict_view<DictViewKind::kItems>},
    {"keys", dict_view<DictViewKind::kKeys>},
    {"values", dict_view<DictViewKind::kValues>},
};
constexpr Method kListMethods[] = {{"copy", copy}, {"count", sequence_count}, {"index", sequence_index}};
constexpr Method kTupleMethods[] = {{"count", sequence_count}, {"index", sequence_index}};
constexpr Method kFloatMethods[] = {{"is_integer", is_integer}};
constexpr Method kCyclerMethods[] = {{"next", cycler_next}, {"reset", cycler_reset}};
constexpr Method kLoopMethods[] = {{"changed", loop_changed}, {"cycle", loop_cycle}};

std::span<const Method> methods_of(Kind kind) {
  switch (kind) {
    case Kind::kString:
      return string_methods();
    case Kind::kDict:
      return kDictMethods;
    case Kind::kList:
      return kListMethods;
    case Kind::kTuple:
      return kTupleMethods;
    case Kind::kFloat:
      return kFloatMethods;
    case Kind::kCycler:
      return kCyclerMethods;
    case Kind::kLoop:
      return kLoopMethods;
    default:
      return {};
  }
}

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

const Function* find_function(std::string_view name) {
  return find_by_name(std::span<const Function>(kFunctions), name);
}

const Method* find_method(const Value& object, std::string_view name) {
  return find_by_name(methods_of(object.kind()), name);
}

const Filter* find_filter(std::string_view name) {
  for (const auto table : {text_filters(), sequence_filters(), value_filters()}) {
    if (const Filter* filter = find_by_name(table, name)) return filter;
  }
  return nullptr;
}

bool is_forbidden_attribute(const Value& object, std::string_view name) {
  if (object.is(Kind::kList)) {
    if (is_one_of(name, {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"}))
      return true;
  } else if (object.is(Kind::kDict)) {
    if (is_one_of(name, {"clear", "pop", "popitem", "setdefault", "update"})) return true;
  }
  return is_one_of(name, {"__class__", "__dict__", "__doc__", "__init__", "__module__", "__getattribute__",
                          "__subclasshook__", "__reduce__", "__reduce_ex__", "__dir__", "__eq__", "__hash__",
                          "__str__", "__repr__", "__new__", "__sizeof__", "__setattr__", "__delattr__"});
}

std::optional<Value> macro_attribute(Runtime& runtime, const Value& macro, std::string_view name) {
  const MacroNode& node = *macro.as<MacroObject>().node;
  if (name == "name") return node.name.empty() ? Value() : runtime.string(node.name);
  if (name == "catch_kwargs") return Value(node.uses_kwargs);
  if (name == "catch_varargs") return Value(node.uses_varargs);
  if (name == "caller") return Value(node.uses_caller);
  if (name != "arguments") return std::nullopt;
  std::vector<Value> names;
  for (const Parameter& parameter : node.parameters) names.push_back(runtime.string(parameter.name));
  return runtime.tuple(std::move(names));
}

void BoundArguments::set(size_t idx, Value value) {
  slots_[idx].value = std::move(value);
  slots_[idx].given = true;
}

Value BoundArguments::get(size_t idx, const Value& when_absent) const {
  return slots_[idx].given ? slots_[idx].value : when_absent;
}

Result<int64_t> BoundArguments::get_int(size_t idx, std::string_view name, int64_t when_absent) const {
  if (get(idx).is_none()) return when_absent;
  return to_index(get(idx), name);
}

Result<std::optional<std::string>> BoundArguments::get_text(size_t idx, std::string_view name) const {
  const Value& value = get(idx);
  if (value.is_none()) return std::optional<std::string>();
  if (value.is_undefined()) return undefined_error(value);
  if (!value.is_string()) {
    return type_error(std::string(name) + " must be str, not " + std::string(type_name(value)));
  }
  return value.text();
}

Result<BoundArguments> bind(std::string_view callee, const Arguments& arguments,
                            std::initializer_list<std::string_view> parameters, size_t num_required) {
  BoundArguments bound(parameters.size());
  if (arguments.positional.size() > parameters.size()) {
    return type_error(std::string(callee) + "() takes at most " + std::to_string(parameters.size()) +
                      " arguments (" + std::to_string(arguments.positional.size()) + " given)");
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) bound.set(i, arguments.positional[i]);
  for (const auto& [name, value] : arguments.keyword) {
    const auto* parameter = std::find(parameters.begin(), parameters.end(), name);
    if (parameter == parameters.end()) {
      return type_error(std::string(callee) + "() got an unexpected keyword argument '" + name + "'");
    }
    const auto idx = static_cast<size_t>(parameter - parameters.begin());
    if (bound.has(idx)) {
      return type_error(std::string(callee) + "() got multiple values for argument '" + name + "'");
    }
    bound.set(idx, value);
  }
  for (size_t i = 0; i < num_required; ++i) {
    if (!bound.has(i)) {
      return type_error(std::string(callee) + "() missing required argument: '" +
                        std::string(*(parameters.begin() + i)) + "'");
    }
  }
  return bound;
}

}  // namespace nemoforge::text::jinja
