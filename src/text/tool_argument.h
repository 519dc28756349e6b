// The values of a tool's parameters: what a model writes as text between XML tags becomes JSON of the type
// that the tool's schema gives the parameter.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "io/json.h"

namespace nemoforge::text {

// The types that a value may have: a set of JSON Schema's seven.
class JsonTypes {
 public:
  enum Type : uint8_t {
    kString = 1,
    kInteger = 2,
    kNumber = 4,
    kBoolean = 8,
    kNull = 16,
    kObject = 32,
    kArray = 64,
  };
  static constexpr uint8_t kAll = 127;

  constexpr JsonTypes() = default;  // any type
  constexpr explicit JsonTypes(uint8_t types) : types_(types) {}

  [[nodiscard]] bool allows(Type type) const { return (types_ & type) != 0; }
  [[nodiscard]] bool is_string() const { return types_ == kString; }
  friend bool operator==(JsonTypes, JsonTypes) = default;

 private:
  uint8_t types_ = kAll;
};

// What `schema` says of the type of its values: `type`, else `enum`, `const`, `anyOf`, `oneOf`, `allOf` or a
// `$ref` into `root`; with OpenAPI's `nullable` also null. A schema that says nothing allows any.
[[nodiscard]] JsonTypes json_types_of(const io::Json& schema, const io::Json& root);

// A tool's parameter. Refers to the ToolSchemas that it comes from.
struct ToolParameter {
  JsonTypes types;
  const io::Json* schema = nullptr;  // null: nothing is known but the types
  const io::Json* root = nullptr;    // that the schema's references are looked up in

  // Any string is a value, and nothing else.
  [[nodiscard]] bool is_free_string() const;
};

// The parameters of every tool of a request.
class ToolSchemas {
 public:
  static constexpr size_t kMaxTools = 1024;

  // From the API's `tools`: [{"type": "function", "function": {"name": ..., "parameters": {...}}}, ...].
  // kInvalidArgument, beginning with the place ("tools[1].function.name"), where it is none.
  [[nodiscard]] static Result<ToolSchemas> from_json(const io::Json& tools);

  // One of any type for a tool or a parameter that is not there.
  [[nodiscard]] ToolParameter parameter(std::string_view tool, std::string_view name) const;
  [[nodiscard]] bool has_tool(std::string_view tool) const { return tools_.contains(tool); }

 private:
  struct Tool {
    std::shared_ptr<const io::Json> schema;  // of all parameters
    std::map<std::string, ToolParameter, std::less<>> parameters;
  };
  std::map<std::string, Tool, std::less<>> tools_;
};

// `text` as JSON. A string where only strings are allowed; otherwise the JSON or the Python literal that it
// spells (True, None, {'a': (1, 2)}, a number in quotes), if its type is allowed; otherwise a string. Of
// these readings, and of a string in quotes without them, the first that the schema allows; without one the
// first that its type allows. Always one JSON value of well-formed UTF-8.
[[nodiscard]] std::string argument_to_json(std::string_view text, const ToolParameter& parameter);

// The inside of a JSON string, without its quotes. Bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string escape_json_string(std::string_view text);

}  // namespace nemoforge::text
