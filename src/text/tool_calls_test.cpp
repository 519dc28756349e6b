#include "text/tool_calls.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "text/python_literal.h"

namespace nemoforge::text {

void PrintTo(const ParsedAnswer& answer, std::ostream* out) {
  *out << "content[" << answer.content << "]";
  for (const ToolCall& one : answer.calls) {
    *out << " " << one.name << "(" << one.arguments << ")" << (one.complete ? "" : " incomplete");
  }
}

namespace {

std::shared_ptr<const ToolSchemas> weather_tools() {
  const auto tools = io::parse_json(R"([
    {"type": "function", "function": {"name": "get_weather", "parameters": {
      "type": "object",
      "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "metric": {"type": "boolean"},
        "ratio": {"type": "number"},
        "note": {"type": ["string", "null"]},
        "places": {"type": "array", "items": {"type": "string"}},
        "filter": {"$ref": "#/$defs/filter"},
        "unit": {"enum": ["C", "F"]}
      },
      "$defs": {"filter": {"anyOf": [{"type": "object"}, {"type": "null"}]}}
    }}},
    {"type": "function", "function": {"name": "now"}}
  ])");
  EXPECT_TRUE(tools) << tools.error().to_string();
  auto schemas = ToolSchemas::from_json(*tools);
  EXPECT_TRUE(schemas) << schemas.error().to_string();
  return std::make_shared<const ToolSchemas>(*std::move(schemas));
}

std::string parameter(const std::string& key, const std::string& value) {
  return "<parameter=" + key + ">\n" + value + "\n</parameter>\n";
}

std::string call(const std::string& name, const std::string& parameters) {
  return "<tool_call>\n<function=" + name + ">\n" + parameters + "</function>\n</tool_call>";
}

struct Case {
  std::string output;
  ParsedAnswer answer;
};

std::vector<Case> cases() {
  const std::string oslo = R"({"city": "Oslo"})";
  return {
      {"plain text", {"plain text", {}}},
      {"  spaces stay \n", {"  spaces stay \n", {}}},
      {call("get_weather", parameter("city", "Oslo")), {"", {{"get_weather", oslo, true}}}},
      {"\n\n" + call("now", "") + "\n", {"", {{"now", "{}", true}}}},
      {"I look.\n\n" + call("get_weather", parameter("city", "Oslo")),
       {"I look.", {{"get_weather", oslo, true}}}},
      {call("get_weather", parameter("city", "Oslo") + parameter("days", "3")) + "\n" + call("now", "") +
           "\n",
       {"", {{"get_weather", R"({"city": "Oslo", "days": 3})", true}, {"now", "{}", true}}}},
      {call("now", "") + "\nand text", {"\nand text", {{"now", "{}", true}}}},
      {"<tool_call><function=now></function><function=now></function></tool_call>",
       {"", {{"now", "{}", true}, {"now", "{}", true}}}},
      // Values may hold what looks like tags, lines, and text of any language.
      {call("get_weather", parameter("city", "a < b </para> <tool_call>\n\n\"q\" \\ \xC3\xB8")),
       {"",
        {{"get_weather",
          R"({"city": "a < b </para> <tool_call>\n\n\"q\" \\ )"
          "\xC3\xB8\"}",
          true}}}},
      {call("get_weather", parameter("city", "")), {"", {{"get_weather", R"({"city": ""})", true}}}},
      {call("get_weather", "<parameter=city>Oslo</parameter>"), {"", {{"get_weather", oslo, true}}}},
      {call("get_weather", parameter("city", "\nOslo\n")),
       {"", {{"get_weather", R"({"city": "\nOslo\n"})", true}}}},
      // Closing tags that the model forgets.
      {"<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</function>\n</tool_call>",
       {"", {{"get_weather", oslo, true}}}},
      {"<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n<parameter=days>\n2\n</parameter>\n</"
       "tool_call>",
       {"", {{"get_weather", R"({"city": "Oslo", "days": 2})", true}}}},
      {"<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>",
       {"", {{"get_weather", oslo, true}}}},
      // What is no call is content, byte for byte.
      {"<tool_call>\n{\"name\": \"now\"}\n</tool_call>",
       {"<tool_call>\n{\"name\": \"now\"}\n</tool_call>", {}}},
      {"x \n<tool_call>\n<function=>\n", {"x \n<tool_call>\n<function=>\n", {}}},
      {"<tool_call>\n<function=now>\nhello", {"<tool_call>\n<function=now>\nhello", {}}},
      {"<tool_call", {"<tool_call", {}}},
      {"a <tool_call> b " + call("now", ""), {"a <tool_call> b", {{"now", "{}", true}}}},
      {"</tool_call>", {"</tool_call>", {}}},
      // Text between parameters is content; a call that never ends is reported as that.
      {call("get_weather", parameter("city", "Oslo") + "oops <b> "),
       {"oops <b> ", {{"get_weather", oslo, true}}}},
      {"<tool_call>\n<function=get_weather>\n<parameter=city>\nOs",
       {"", {{"get_weather", R"({"city": "Os)", false}}}},
      {"<tool_call>\n<function=get_weather>\n<parameter=days>\n12",
       {"", {{"get_weather", R"({"days": 12)", false}}}},
      {"<tool_call>\n<function=get_weather>\n" + parameter("city", "Oslo"),
       {"", {{"get_weather", R"({"city": "Oslo")", false}}}},
  };
}

ParsedAnswer parse_in_pieces(std::string_view text, const std::vector<size_t>& cuts,
                             const std::shared_ptr<const ToolSchemas>& schemas) {
  ToolCallParser parser(schemas);
  ParsedAnswer answer;
  size_t begin = 0;
  for (const size_t cut : cuts) {
    append_events(answer, parser.push(text.substr(begin, cut - begin)));
    begin = cut;
  }
  append_events(answer, parser.push(text.substr(begin)));
  append_events(answer, parser.finish());
  return answer;
}

TEST(ToolCalls, splits_content_and_calls) {
  const auto schemas = weather_tools();
  for (const Case& one : cases()) EXPECT_EQ(parse_tool_calls(one.output, schemas), one.answer) << one.output;
}

TEST(ToolCalls, streaming_equals_the_whole_at_every_split) {
  const auto schemas = weather_tools();
  const auto all = cases();
  for (const Case& one : all) {
    std::vector<size_t> every_byte;
    for (size_t i = 0; i < one.output.size(); ++i) {
      EXPECT_EQ(parse_in_pieces(one.output, {i}, schemas), one.answer) << i << " of " << one.output;
      every_byte.push_back(i);
    }
    EXPECT_EQ(parse_in_pieces(one.output, every_byte, schemas), one.answer) << one.output;
  }
  // Several answers in a row.
  for (const Case& first : all) {
    for (const Case& second : all) {
      const std::string text = first.output + second.output;
      std::vector<size_t> every_byte;
      for (size_t i = 0; i < text.size(); ++i) every_byte.push_back(i);
      EXPECT_EQ(parse_in_pieces(text, every_byte, schemas), parse_tool_calls(text, schemas)) << text;
    }
  }
}

TEST(ToolCalls, random_tags_in_random_pieces_equal_the_whole) {
  constexpr std::string_view kPieces[] = {
      "<tool_call>",
      "</tool_call>",
      "<function=now>",
      "<function=get_weather>",
      "</function>",
      "<parameter=city>",
      "<parameter=days>",
      "</parameter>",
      "\n",
      " ",
      "<",
      "5",
      "True",
      "text",
      "\xC3\xB8",
      "\xE2\x82",
      "\"",
      "<tool",
      "                                                                      "};
  const auto schemas = weather_tools();
  Rng random(20261124);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    std::vector<size_t> cuts;
    const uint64_t num_pieces = random.below(24);
    for (uint64_t i = 0; i < num_pieces; ++i) text += kPieces[random.below(std::size(kPieces))];
    for (size_t i = 1; i < text.size(); ++i) {
      if (random.below(3) == 0) cuts.push_back(i);
    }
    const ParsedAnswer whole = parse_tool_calls(text, schemas);
    ASSERT_EQ(parse_in_pieces(text, cuts, schemas), whole) << text;
    for (const ToolCall& one : whole.calls) {
      ASSERT_TRUE(!one.complete || io::parse_json(one.arguments)) << text << "\n" << one.arguments;
    }
  }
}

TEST(ToolCalls, a_string_is_given_out_as_it_is_written) {
  ToolCallParser parser(weather_tools());
  (void)parser.push("<tool_call>\n<function=get_weather>\n<parameter=city>\n");
  const auto events = parser.push("Os");
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0], (ToolCallEvent{ToolCallEvent::Kind::kArguments, 0, "Os", false}));
  EXPECT_EQ(parser.num_calls(), 1);
}

TEST(ToolCalls, a_value_beyond_the_limit_is_given_out_as_a_string) {
  const std::string digits((1 << 20) + 1, '7');
  const auto answer = parse_tool_calls(call("get_weather", parameter("days", digits)), weather_tools());
  ASSERT_EQ(answer.calls.size(), 1U);
  EXPECT_EQ(answer.calls[0].arguments, "{\"days\": \"" + digits + "\"}");
}

struct ValueCase {
  const char* parameter;
  const char* text;
  const char* json;
};

TEST(ToolArgument, takes_the_type_that_the_schema_gives) {
  const ValueCase values[] = {
      {"city", "5", R"("5")"},
      {"city", "None", R"("None")"},
      {"city", "true", R"("true")"},
      {"days", "5", "5"},
      {"days", " 5 ", "5"},
      {"days", "\"5\"", "5"},
      {"days", "'5'", "5"},
      {"days", "5.0", "5"},
      {"days", "+5", "5"},
      {"days", "123456789012345678901234567890", "123456789012345678901234567890"},
      {"days", "None", "null"},
      {"days", "five", R"("five")"},
      {"days", "", R"("")"},
      {"metric", "True", "true"},
      {"metric", "false", "false"},
      {"metric", "FALSE", "false"},
      {"metric", "yes", R"("yes")"},
      {"ratio", "1e-3", "1e-3"},
      {"ratio", ".5", "0.5"},
      {"ratio", "7", "7"},
      {"ratio", "NaN", R"("NaN")"},
      {"note", "None", "null"},
      {"note", "5", R"("5")"},
      {"note", "free text", R"("free text")"},
      {"places", R"(["a", "b"])", R"(["a", "b"])"},
      {"places", "['a', \"b's\", None, (1, 2.5)]", R"(["a","b's",null,[1,2.5]])"},
      {"places", "[1, 2", R"("[1, 2")"},
      {"filter", "{'x': True, 3: []}", R"({"x":true,"3":[]})"},
      {"filter", "null", "null"},
      {"unit", "C", R"("C")"},
      // No schema: what it spells.
      {"other", "5", "5"},
      {"other", "True", "true"},
      {"other", "\"quoted\"", R"("\"quoted\"")"},
      {"other", "words", R"("words")"},
  };
  const auto schemas = weather_tools();
  for (const ValueCase& one : values) {
    EXPECT_EQ(argument_to_json(one.text, schemas->parameter("get_weather", one.parameter)), one.json)
        << one.parameter << " = " << one.text;
  }
}

TEST(ToolArgument, a_value_with_bytes_behind_it_is_a_string) {
  EXPECT_EQ(argument_to_json(std::string_view("null\0z", 6), {}), R"("null\u0000z")");
  EXPECT_EQ(argument_to_json("\xef\xbb\xbf"
                             "5",
                             {}),
            "\"\xef\xbb\xbf"
            "5\"");
}

TEST(ToolArgument, control_bytes_and_bytes_that_are_not_utf8_become_json) {
  EXPECT_EQ(escape_json_string(std::string_view("\x01\b\0\xFFz", 5)), "\\u0001\\u0008\\u0000\xEF\xBF\xBDz");
}

TEST(ToolSchemas, errors_name_the_place) {
  const auto message = [](const char* tools) {
    return ToolSchemas::from_json(*io::parse_json(tools)).error().message;
  };
  EXPECT_EQ(message("{}"), "tools: expected an array");
  EXPECT_TRUE(message("[{}]").starts_with("tools[0]: expected"));
  EXPECT_TRUE(message(R"([{"function": {"name": ""}}])").starts_with("tools[0].function.name: expected"));
  EXPECT_TRUE(message(R"([{"function": {"name": "a", "parameters": 1}}])")
                  .starts_with("tools[0].function.parameters:"));
}

TEST(PythonLiteral, refuses_what_is_none) {
  for (const char* text :
       {"", "a", "1 2", "[1", "{1: 2", "{[1]: 2}", "'a", "f(1)", "1e999", "{'a' 1}", "'\\x4'"}) {
    EXPECT_FALSE(parse_python_literal(text)) << text;
  }
  EXPECT_FALSE(parse_python_literal(std::string(1000, '[')));
  EXPECT_EQ(io::dump_json(*parse_python_literal("'\\x41\\u00e9\\n\\''")), "\"A\xC3\xA9\\n'\"");
  EXPECT_EQ(io::dump_json(*parse_python_literal("(1,)")), "[1]");
  EXPECT_EQ(io::dump_json(*parse_python_literal("()")), "[]");
}

}  // namespace
}  // namespace nemoforge::text
