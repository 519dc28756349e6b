// Any request to a chat template that looks into all that it is given, and any template: a text or a clear
// error.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "io/json.h"
#include "text/chat_template.h"

namespace {

using namespace nemoforge;

// What templates in the wild do with messages, tools and arguments.
constexpr std::string_view kCurious = R"(
{%- macro type_of(x) %}{{ x | string | trim | replace("a", "b") }}{{ x is mapping }}{{ x is string }}{% endmacro %}
{%- set ns = namespace(last = -1, text = '') %}
{%- for message in messages %}
{%- set ns.last = loop.index0 %}
{%- set content = message.content if message.content is string else (message.content | tojson) %}
{{- message.role | upper }}:{{ content.split('</think>')[-1].lstrip('\n') }}{{ content[1:3] }}{{ message['reasoning_content'] | default('', true) }}
{%- if message.tool_calls %}
{%- for call in message.tool_calls %}
{%- set call = call.function if call.function is defined else call %}
<{{ call.name }}>{% for key, value in call.arguments | items %}{{ key ~ type_of(value) }}{{ value | tojson(indent=2) }}{% endfor %}
{%- endfor %}{% endif %}
{%- for key in message %}{{ key }}={{ message[key] | string | length }},{% endfor %}
{%- endfor %}
{%- for tool in tools or [] %}{{ tool.function.parameters.properties | dictsort | list | tojson }}{{ tool | tojson }}{{ (tool.function or tool).name }}
{%- endfor %}
{%- if enable_thinking is defined %}{{ enable_thinking == true }}{{ enable_thinking ~ ns.last }}{% endif %}
{%- for document in documents or [] %}{{ document.title }}{{ document.keys() | join(',') }}{% endfor %}
{%- if add_generation_prompt %}<think>{% endif %})";

text::ChatTemplate template_of(std::string_view source) {
  auto made = text::ChatTemplate::from_source(source);
  NF_CHECK(made.has_value()) << made.error().message;
  return *std::move(made);
}

void render(const text::ChatTemplate& chat_template, const io::Json& request) {
  const auto chat = text::ChatRequest::from_json(request);
  if (!chat) {
    NF_CHECK(!chat.error().message.empty());
    return;
  }
  const auto prompt = chat_template.render(*chat);
  NF_CHECK(prompt.has_value() || !prompt.error().message.empty());
}

}  // namespace

// A zero byte divides a request from a template of the fuzzer's own.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const text::ChatTemplate curious = template_of(kCurious);
  static const auto demo = text::ChatTemplate::load(NEMOFORGE_SOURCE_DIR "/models/demo");
  NF_CHECK(demo.has_value()) << "the demo checkpoint is missing";
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const auto request = io::parse_json(input.substr(0, zero));
  if (request && request->is_object()) {
    render(curious, *request);
    render(*demo, *request);
  }
  if (zero == std::string_view::npos) return 0;
  const auto own = text::ChatTemplate::from_source(input.substr(zero + 1));
  if (!own) {
    NF_CHECK(!own.error().message.empty());
    return 0;
  }
  static const io::Json plain = io::Json::parse(
      R"({"messages": [{"role": "user", "content": "a\nb", "n": [1, 2.5, null, true]}], "tools": [{"type": "function"}]})");
  render(*own, request && request->is_object() ? *request : plain);
  return 0;
}
