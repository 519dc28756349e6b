// Splitting an answer into content and calls as it streams in equals splitting it at once, whatever the bytes
// and the chunks; and the arguments of a complete call are JSON.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "io/json.h"
#include "text/tool_calls.h"

namespace {

std::shared_ptr<const nemoforge::text::ToolSchemas> fuzz_schemas() {
  const auto tools =
      nemoforge::io::parse_json(R"([{"type": "function", "function": {"name": "f", "parameters": {
      "properties": {"s": {"type": "string"}, "i": {"type": "integer"}, "o": {"type": "object"}}}}}])");
  NF_CHECK(tools.has_value());
  auto schemas = nemoforge::text::ToolSchemas::from_json(*tools);
  NF_CHECK(schemas.has_value());
  return std::make_shared<const nemoforge::text::ToolSchemas>(*std::move(schemas));
}

}  // namespace

// The first byte chooses the sizes of the chunks.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nemoforge::text;
  static const auto schemas = fuzz_schemas();
  if (size < 1) return 0;
  const std::string_view output(reinterpret_cast<const char*>(data) + 1, size - 1);
  const ParsedAnswer whole = parse_tool_calls(output, schemas);
  ToolCallParser parser(schemas);
  ParsedAnswer streamed;
  uint32_t state = data[0];
  for (size_t pos = 0; pos < output.size();) {
    state = state * 1664525u + 1013904223u;
    const size_t chunk = std::min<size_t>(1 + (state >> 28), output.size() - pos);
    append_events(streamed, parser.push(output.substr(pos, chunk)));
    pos += chunk;
  }
  append_events(streamed, parser.finish());
  NF_CHECK(streamed == whole);
  for (const ToolCall& call : whole.calls) {
    NF_CHECK(!call.complete || nemoforge::io::parse_json(call.arguments, {.max_depth = 256}).has_value());
  }
  return 0;
}
