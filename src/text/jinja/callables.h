// What a template can call: global functions, methods of values, filters and tests, each a table by name; and
// the binding of their arguments to parameters.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace nemoforge::text::jinja {

struct Function {
  std::string_view name;
  Result<Value> (*call)(Runtime&, Arguments&);
};

struct Method {
  std::string_view name;
  Result<Value> (*call)(Runtime&, const Value& self, Arguments&);
};

struct Filter {
  std::string_view name;
  Result<Value> (*apply)(Runtime&, const Value& value, Arguments&);
};

struct Test {
  std::string_view name;
  Result<bool> (*holds)(Runtime&, const Value& value, Arguments&);
};

// Null where there is none of that name.
[[nodiscard]] const Function* find_function(std::string_view name);
[[nodiscard]] const Method* find_method(const Value& object, std::string_view name);
[[nodiscard]] const Filter* find_filter(std::string_view name);
[[nodiscard]] const Test* find_test(std::string_view name);

// Attributes that exist in Python but that the sandbox keeps from templates: what would change a list or
// dict, and the internals.
[[nodiscard]] bool is_forbidden_attribute(const Value& object, std::string_view name);

// name, arguments, catch_kwargs, catch_varargs and caller of a macro.
[[nodiscard]] std::optional<Value> macro_attribute(Runtime& runtime, const Value& macro,
                                                   std::string_view name);

// Arguments by parameter; absent ones are None.
class BoundArguments {
 public:
  explicit BoundArguments(size_t size) : slots_(size) {}
  void set(size_t idx, Value value);
  [[nodiscard]] bool has(size_t idx) const { return slots_[idx].given; }
  [[nodiscard]] const Value& get(size_t idx) const { return slots_[idx].value; }
  [[nodiscard]] Value get(size_t idx, const Value& when_absent) const;
  // The argument as 64-bit integer, or `when_absent`.
  [[nodiscard]] Result<int64_t> get_int(size_t idx, std::string_view name, int64_t when_absent) const;
  // The argument, which must be a string; empty where absent or None.
  [[nodiscard]] Result<std::optional<std::string>> get_text(size_t idx, std::string_view name) const;

 private:
  struct Slot {
    Value value;
    bool given = false;
  };
  std::vector<Slot> slots_;
};

// Binds positional and keyword arguments to `parameters`, of which the first `num_required` must be given.
// `callee` is for the error.
[[nodiscard]] Result<BoundArguments> bind(std::string_view callee, const Arguments& arguments,
                                          std::initializer_list<std::string_view> parameters,
                                          size_t num_required = 0);

// Looks a name up in a table sorted by name.
template <typename Entry>
const Entry* find_by_name(std::span<const Entry> sorted, std::string_view name) {
  size_t low = 0;
  size_t high = sorted.size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (sorted[middle].name < name) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < sorted.size() && sorted[low].name == name ? &sorted[low] : nullptr;
}

// str.isupper (or islower): there is a cased character and none of the other case.
[[nodiscard]] bool has_only_case(Runtime& runtime, std::string_view text, bool upper);
// str.replace; at most max_count times where it is not negative.
[[nodiscard]] Result<std::string> replace_text(Runtime& runtime, std::string_view text, std::string_view from,
                                               std::string_view to, int64_t max_count);

// The tables, each in its own file.
[[nodiscard]] std::span<const Method> string_methods();
[[nodiscard]] std::span<const Filter> text_filters();
[[nodiscard]] std::span<const Filter> sequence_filters();
[[nodiscard]] std::span<const Filter> value_filters();

}  // namespace nemoforge::text::jinja
