#include "text/chat_template.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/temporary_folder.h"
#include "io/file.h"

namespace nemoforge::text {
namespace {

using testing::HasSubstr;

const std::string kSource = NEMOFORGE_SOURCE_DIR;

struct File {
  std::string name;
  std::string text;
};
using Files = std::vector<File>;

// A checkpoint's folder with these files.
class ModelFolder {
 public:
  explicit ModelFolder(const Files& files) {
    for (const auto& [name, text] : files) {
      const auto written = io::write_file_atomically(folder_.path(name), text);
      EXPECT_TRUE(written) << written.error().to_string();
    }
  }
  [[nodiscard]] const std::string& path() const { return folder_.path(); }

 private:
  TemporaryFolder folder_ = TemporaryFolder::create().value();
};

io::Json parse(std::string_view text) {
  return io::parse_json(text).value();
}

Result<std::string> render(const ChatTemplate& chat, const io::Json& request) {
  NF_TRY(const ChatRequest parsed, ChatRequest::from_json(request));
  return chat.render(parsed);
}

Result<std::string> render(std::string_view source, std::string_view request) {
  NF_TRY(const ChatTemplate chat, ChatTemplate::from_source(source, {{"bos_token", "<s>"}}));
  return render(chat, parse(request));
}

// NEMOFORGE_REFERENCE_TEMPLATE names the checkpoint's own template; without it, ours that renders the same.
TEST(ChatTemplate, renders_the_recorded_conversations_of_the_model) {
  const char* reference = std::getenv("NEMOFORGE_REFERENCE_TEMPLATE");
  const std::string path =
      reference != nullptr ? reference : kSource + "/tests/data/templates/nemotron3_like.jinja";
  const auto source = io::read_file(path);
  ASSERT_TRUE(source) << source.error().to_string();
  const auto chat = ChatTemplate::from_source(*source);
  ASSERT_TRUE(chat) << chat.error().to_string();
  const auto cases = io::read_json_file(kSource + "/tests/data/chat_template_cases.json");
  ASSERT_TRUE(cases) << cases.error().to_string();
  ASSERT_EQ(cases->size(), 30u);
  for (const auto& one : *cases) {
    io::Json request = one;
    request["chat_template_kwargs"] = one["kwargs"];
    const auto text = render(*chat, request);
    ASSERT_TRUE(text) << one["name"] << ": " << text.error().to_string();
    EXPECT_EQ(*text, one["rendered"].get<std::string>()) << one["name"];
  }
}

TEST(ChatTemplate, content_parts_become_one_text) {
  const char* source = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
  EXPECT_EQ(render(source, R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, "b",
                              {"type": "input_text", "text": "c"}]}, {"role": "tool", "content": []}]})")
                .value(),
            "[a\nb\nc][]");
  const auto image =
      render(source, R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})");
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(image.error().message, "messages[0]: content parts of type 'image_url' are not supported");
}

TEST(ChatTemplate, arguments_of_tool_calls_are_parsed_in_order) {
  const char* source =
      "{% for m in messages %}{% for c in m.tool_calls %}{% for k, v in c.function.arguments|items %}{{ k "
      "}}={{ v }};"
      "{% endfor %}|{% endfor %}{% endfor %}";
  EXPECT_EQ(render(source, R"({"messages": [{"role": "assistant", "content": null, "tool_calls": [
                {"function": {"name": "f", "arguments": "{\"z\": 1, \"a\": [true, null], \"f\": 1.0}"}},
                {"function": {"name": "f", "arguments": {"k": "v"}}},
                {"function": {"name": "f", "arguments": ""}}, {"function": {"name": "f"}}]}]})")
                .value(),
            "z=1;a=[True, None];f=1.0;|k=v;|||");
  const auto broken = render(source, R"({"messages": [{"role": "assistant", "tool_calls": [
                {"function": {"name": "f", "arguments": "{"}}]}]})");
  ASSERT_FALSE(broken);
  EXPECT_THAT(broken.error().message, HasSubstr("messages[0]: the arguments of a tool call are no JSON"));
}

TEST(ChatTemplate, reasoning_is_an_alias) {
  const char* source = "{% for m in messages %}{{ m.reasoning_content }}{% endfor %}";
  EXPECT_EQ(render(source, R"({"messages": [{"role": "assistant", "content": "", "reasoning": "r"},
                {"role": "assistant", "reasoning": "r", "reasoning_content": "c"}]})")
                .value(),
            "rc");
}

TEST(ChatTemplate, variables_are_those_of_transformers) {
  const char* source =
      "{{ bos_token }}{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ extra }}{{ eos_token is "
      "defined }}";
  EXPECT_EQ(render(source, R"({"messages": []})").value(), "<s>NoneNoneTrueFalse");
  EXPECT_EQ(render(source, R"({"messages": [], "tools": [1], "documents": [2], "add_generation_prompt": false,
                              "chat_template_kwargs": {"extra": {"k": [1]}}})")
                .value(),
            "<s>[1][2]False{'k': [1]}False");
  EXPECT_FALSE(render(source, R"({"messages": [], "chat_template_kwargs": {"messages": []}})"));
}

TEST(ChatTemplate, requests_of_the_wrong_form_are_refused) {
  for (const char* request :
       {R"([])", R"({})", R"({"messages": null})", R"({"messages": {}})", R"({"messages": [1]})",
        R"({"messages": [{"content": "x"}]})", R"({"messages": [{"role": 1}]})",
        R"({"messages": [], "tools": {}})", R"({"messages": [], "documents": 1})",
        R"({"messages": [], "add_generation_prompt": 1})", R"({"messages": [], "chat_template_kwargs": 1})",
        R"({"messages": [{"role": "user", "content": [1]}]})",
        R"({"messages": [{"role": "user", "content": [{"type": "text"}]}]})",
        R"({"messages": [{"role": "assistant", "tool_calls": [1]}]})"}) {
    const auto text = render("x", request);
    ASSERT_FALSE(text) << request;
    EXPECT_EQ(text.error().code, ErrorCode::kInvalidArgument) << request;
  }
}

TEST(ChatTemplate, errors_of_the_template_name_it) {
  const auto raised = render("\n{{ raise_exception('no') }}", R"({"messages": []})");
  EXPECT_EQ(raised.error().message, "chat template line 2: no");
  const auto broken = ChatTemplate::from_source("\n{{");
  EXPECT_THAT(broken.error().message, HasSubstr("chat template: line 2: "));
}

TEST(ChatTemplate, loads_the_file_before_the_configuration) {
  const std::string config = R"({"bos_token": {"content": "<B>"}, "eos_token": "<E>", "pad_token": null,
                                 "chat_template": "config {{ eos_token }}"})";
  const io::Json request = parse(R"({"messages": []})");
  const ModelFolder both(Files{File{"chat_template.jinja", "file {{ bos_token }}{{ pad_token is defined }}"},
                               {"tokenizer_config.json", config}});
  EXPECT_EQ(render(ChatTemplate::load(both.path()).value(), request).value(), "file <B>False");
  const ModelFolder only_config(Files{File{"tokenizer_config.json", config}});
  EXPECT_EQ(render(ChatTemplate::load(only_config.path()).value(), request).value(), "config <E>");
  const ModelFolder only_file(Files{File{"chat_template.jinja", "alone"}});
  EXPECT_EQ(render(ChatTemplate::load(only_file.path()).value(), request).value(), "alone");
}

TEST(ChatTemplate, named_templates_are_chosen_by_the_tools) {
  const ModelFolder folder(Files{
      File{"tokenizer_config.json",
           R"({"chat_template": [{"name": "default", "template": "plain"}, {"name": "rag", "template": "{{"},
                                  {"name": "tool_use", "template": "tools {{ tools|length }}"}]})"}});
  const auto chat = ChatTemplate::load(folder.path());
  ASSERT_TRUE(chat) << chat.error().to_string();
  EXPECT_EQ(render(*chat, parse(R"({"messages": []})")).value(), "plain");
  EXPECT_EQ(render(*chat, parse(R"({"messages": [], "tools": [1, 2]})")).value(), "tools 2");
}

TEST(ChatTemplate, a_folder_without_template_is_said_so) {
  const ModelFolder empty(Files{});
  EXPECT_EQ(ChatTemplate::load(empty.path()).error().code, ErrorCode::kNotFound);
  const ModelFolder no_template(Files{File{"tokenizer_config.json", "{}"}});
  EXPECT_THAT(ChatTemplate::load(no_template.path()).error().to_string(), HasSubstr("chat_template.jinja"));
  const ModelFolder broken(Files{File{"chat_template.jinja", "a\n{% if %}"}});
  EXPECT_THAT(ChatTemplate::load(broken.path()).error().message, HasSubstr("chat_template.jinja: line 2: "));
  const ModelFolder wrong(Files{File{"tokenizer_config.json", R"({"chat_template": 5})"}});
  EXPECT_EQ(ChatTemplate::load(wrong.path()).error().code, ErrorCode::kInvalidData);
}

}  // namespace
}  // namespace nemoforge::text
