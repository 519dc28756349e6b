// Any template over any JSON values either renders within the limits or says what is wrong.
#include <cstdint>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "io/json.h"
#include "text/jinja/template.h"
#include "text/utf8.h"

// The input is a template, and after a zero byte the JSON object of its variables.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using nemoforge::io::Json;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const auto parsed = nemoforge::text::jinja::Template::parse(input.substr(0, zero));
  if (!parsed) {
    NF_CHECK(parsed.error().message.rfind("line ", 0) == 0) << parsed.error().message;
    return 0;
  }
  std::vector<std::pair<std::string, Json>> variables = {
      {"a", 1},
      {"s", "text é"},
      {"x", {{"k", {1, 2.5, nullptr, true, "v"}}, {"d", {{"e", "f"}}}}},
      {"messages", {{{"role", "user"}, {"content", "hi"}}, {{"role", "assistant"}, {"content", nullptr}}}}};
  if (zero != std::string_view::npos) {
    const auto json = nemoforge::io::parse_json(input.substr(zero + 1));
    if (json && json->is_object()) {
      for (const auto& [name, value] : json->items()) variables.emplace_back(name, value);
    }
  }
  nemoforge::text::jinja::Limits limits;
  limits.max_steps = 200'000;
  limits.max_output_bytes = 1 << 20;
  limits.max_live_bytes = 16 << 20;
  const auto text = parsed->render(variables, limits);
  if (text) {
    NF_CHECK(static_cast<int64_t>(text->size()) <= limits.max_output_bytes) << text->size();
    NF_CHECK(nemoforge::text::is_valid_utf8(*text));
  } else {
    NF_CHECK(text.error().message.rfind("line ", 0) == 0) << text.error().message;
  }
  return 0;
}
