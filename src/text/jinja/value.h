// The values of a template: Python's, as far as chat templates meet them. Scalars are held in place,
// everything else is a shared object. Lists and dicts never change once built (the sandbox of transformers
// forbids it); namespaces, loops, cyclers and iterators do.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace nemoforge::text::jinja {

// Python's integers are unbounded; these have 128 bits, and what exceeds them is an error, never a wrap.
__extension__ using Int = __int128;

enum class Kind : uint8_t {
  kNone,
  kBool,
  kInt,
  kFloat,
  kUndefined,
  kString,
  kList,
  kTuple,
  kDict,
  kNamespace,
  kRange,
  kIterator,
  kDictView,
  kMacro,
  kFunction,
  kMethod,
  kLoop,
  kCycler,
  kJoiner,
};

class Value;
class Runtime;
struct Meter;
struct MacroNode;
struct ForNode;
struct Scope;
struct Function;
struct Method;

// What lives behind a shared pointer. `depth` bounds nesting, and with it every recursion over values.
struct Object {
  explicit Object(Kind object_kind) : kind(object_kind) {}
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object();

  Kind kind;
  int depth = 1;
  Meter* meter = nullptr;  // null: a constant of the template, not counted
  int64_t charged_bytes = 0;
};

struct StringObject;
struct ListObject;
struct DictObject;

class Value {
 public:
  Value() = default;  // None
  Value(bool value) : data_(value) {}
  Value(Int value) : data_(value) {}
  Value(int64_t value) : data_(static_cast<Int>(value)) {}
  Value(int value) : data_(static_cast<Int>(value)) {}
  Value(double value) : data_(value) {}
  Value(std::shared_ptr<Object> object) : data_(std::move(object)) {}
  Value(const char*) = delete;  // would be a bool

  // A string that no meter counts: for the constants of a template.
  [[nodiscard]] static Value constant(std::string text);

  [[nodiscard]] Kind kind() const {
    return data_.index() < 4 ? static_cast<Kind>(data_.index()) : std::get<4>(data_)->kind;
  }
  [[nodiscard]] bool is(Kind kind_asked) const { return kind() == kind_asked; }
  [[nodiscard]] bool is_none() const { return data_.index() == 0; }
  [[nodiscard]] bool is_undefined() const { return is(Kind::kUndefined); }
  [[nodiscard]] bool is_string() const { return is(Kind::kString); }
  [[nodiscard]] bool is_sequence() const { return is(Kind::kList) || is(Kind::kTuple); }
  // int or bool, which Python's arithmetic treats alike.
  [[nodiscard]] bool is_integral() const { return data_.index() == 1 || data_.index() == 2; }
  [[nodiscard]] bool is_number() const { return data_.index() >= 1 && data_.index() <= 3; }

  [[nodiscard]] bool as_bool() const { return std::get<bool>(data_); }
  // Of a bool or an int.
  [[nodiscard]] Int as_int() const {
    return data_.index() == 1 ? Int{std::get<bool>(data_) ? 1 : 0} : std::get<Int>(data_);
  }
  // Of any number.
  [[nodiscard]] double as_double() const {
    return data_.index() == 3 ? std::get<double>(data_) : static_cast<double>(as_int());
  }
  [[nodiscard]] const std::string& text() const;
  // The items of a list or tuple.
  [[nodiscard]] const std::vector<Value>& items() const;
  [[nodiscard]] const DictObject& dict() const;

  [[nodiscard]] Object* object() const { return data_.index() == 4 ? std::get<4>(data_).get() : nullptr; }
  [[nodiscard]] const std::shared_ptr<Object>& shared() const { return std::get<4>(data_); }
  template <typename T>
  [[nodiscard]] T& as() const {
    return static_cast<T&>(*std::get<4>(data_));
  }
  [[nodiscard]] int depth() const { return data_.index() == 4 ? std::get<4>(data_)->depth : 0; }

 private:
  // The order of the first four is that of Kind.
  std::variant<std::monostate, bool, Int, double, std::shared_ptr<Object>> data_;
};

struct StringObject : Object {
  explicit StringObject(std::string string_text);
  std::string text;
  bool ascii;           // byte offsets are code point offsets
  bool markup = false;  // what `safe` and `escape` return; adding to it escapes
};

// A list or a tuple.
struct ListObject : Object {
  ListObject(Kind list_kind, std::vector<Value> list_items)
      : Object(list_kind), items(std::move(list_items)) {}
  std::vector<Value> items;
  bool is_group = false;  // groupby's named tuple (grouper, list)
};

// A dict in insertion order; keys are unique.
struct DictObject : Object {
  DictObject() : Object(Kind::kDict) {}
  std::vector<std::pair<Value, Value>> entries;
  // Entry indices in key order, present when there are too many entries to look through.
  std::vector<uint32_t> by_key;

  [[nodiscard]] const Value* find(const Value& key) const;
  [[nodiscard]] const Value* find(std::string_view key) const;
};

// An undefined value and how it came to be, for the error its use gives.
struct UndefinedObject : Object {
  UndefinedObject() : Object(Kind::kUndefined) {}
  std::string hint;
  bool unsafe = false;
};

struct NamespaceObject : Object {
  NamespaceObject() : Object(Kind::kNamespace) {}
  std::vector<std::pair<std::string, Value>> attributes;
};

struct RangeObject : Object {
  RangeObject(Int range_start, Int range_stop, Int range_step, int64_t range_length)
      : Object(Kind::kRange), start(range_start), stop(range_stop), step(range_step), length(range_length) {}
  Int start;
  Int stop;
  Int step;
  int64_t length;
};

// What Python's generators and iterators are: consumed once, without length or index.
struct IteratorObject : Object {
  explicit IteratorObject(std::vector<Value> iterator_items)
      : Object(Kind::kIterator), items(std::move(iterator_items)) {}
  std::vector<Value> items;
  size_t next = 0;
};

enum class DictViewKind : uint8_t { kKeys, kValues, kItems };

struct DictViewObject : Object {
  DictViewObject(Value view_dict, DictViewKind kind_of_view)
      : Object(Kind::kDictView), dict(std::move(view_dict)), view(kind_of_view) {}
  Value dict;
  DictViewKind view;
};

struct MacroObject : Object {
  MacroObject(const MacroNode* macro_node, Scope* macro_scope)
      : Object(Kind::kMacro), node(macro_node), scope(macro_scope) {}
  const MacroNode* node;
  Scope* scope;  // where it was defined; scopes live as long as the rendering
};

struct FunctionObject : Object {
  explicit FunctionObject(const Function* global_function)
      : Object(Kind::kFunction), function(global_function) {}
  const Function* function;
};

// A method bound to its object.
struct MethodObject : Object {
  MethodObject(Value method_self, const Method* bound_method)
      : Object(Kind::kMethod), self(std::move(method_self)), method(bound_method) {}
  Value self;
  const Method* method;
};

// The `loop` variable.
struct LoopObject : Object {
  LoopObject() : Object(Kind::kLoop) {}
  const ForNode* node = nullptr;
  Scope* outer = nullptr;
  std::shared_ptr<IteratorObject> source;
  bool condition_met = false;  // the source holds only items that meet the loop's condition
  int64_t known_length = -1;   // -1: not known before the source is exhausted
  int64_t index0 = -1;
  int64_t depth0 = 0;
  bool peeked = false;
  bool exhausted = false;  // meaningful when peeked
  Value after;
  Value current;
  Value before;
  bool has_changed_value = false;
  std::vector<Value> changed_value;
};

struct CyclerObject : Object {
  explicit CyclerObject(std::vector<Value> cycler_items)
      : Object(Kind::kCycler), items(std::move(cycler_items)) {}
  std::vector<Value> items;
  size_t pos = 0;
};

struct JoinerObject : Object {
  explicit JoinerObject(std::string joiner_separator)
      : Object(Kind::kJoiner), separator(std::move(joiner_separator)) {}
  std::string separator;
  bool used = false;
};

inline const std::string& Value::text() const {
  return as<StringObject>().text;
}
inline const std::vector<Value>& Value::items() const {
  return as<ListObject>().items;
}
inline const DictObject& Value::dict() const {
  return as<DictObject>();
}

// Python's name of the value's type.
[[nodiscard]] std::string_view type_name(const Value& value);

// bool(value).
[[nodiscard]] bool is_true(const Value& value);

// Whether the value can be a dict's key.
[[nodiscard]] bool is_hashable(const Value& value);

// A total order of hashable values under which equal keys (1, 1.0 and True among them) compare equal.
[[nodiscard]] int compare_keys(const Value& a, const Value& b);

}  // namespace nemoforge::text::jinja
