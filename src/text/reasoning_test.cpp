#include "text/reasoning.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "io/file.h"
#include "text/chat_template.h"

namespace nemoforge::text {
namespace {

struct Case {
  ReasoningStart start;
  std::string output;
  std::string reasoning;
  std::string content;
};

const Case kCases[] = {
    {ReasoningStart::kReasoning, "why\n</think>\nanswer", "why", "answer"},
    {ReasoningStart::kReasoning, "why</think>answer", "why", "answer"},
    {ReasoningStart::kReasoning, "why\n\n</think>\n\nanswer\n", "why\n", "\nanswer\n"},
    {ReasoningStart::kReasoning, "</think>answer", "", "answer"},
    {ReasoningStart::kReasoning, "\n</think>\n", "", ""},
    {ReasoningStart::kReasoning, "never closed\n", "never closed\n", ""},
    {ReasoningStart::kReasoning, "half a tag \n</thi", "half a tag \n</thi", ""},
    {ReasoningStart::kReasoning, "", "", ""},
    {ReasoningStart::kReasoning, "a</think>b</think>c<think>d", "a", "b</think>c<think>d"},
    {ReasoningStart::kReasoning, "a <b> </b> </thing></think>x", "a <b> </b> </thing>", "x"},
    {ReasoningStart::kUndecided, "<think>\nwhy\n</think>\nanswer", "why", "answer"},
    {ReasoningStart::kUndecided, " \n<think>why</think>answer", "why", "answer"},
    {ReasoningStart::kUndecided, "answer <think>x</think>", "", "answer <think>x</think>"},
    {ReasoningStart::kUndecided, "  <thinner", "", "  <thinner"},
    {ReasoningStart::kUndecided, "<thi", "", "<thi"},
    {ReasoningStart::kUndecided, "</think>\nanswer", "", "answer"},
    {ReasoningStart::kUndecided, "<think>open", "open", ""},
    {ReasoningStart::kContent, "answer", "", "answer"},
    {ReasoningStart::kContent, "<think>x</think>y", "", "<think>x</think>y"},
    {ReasoningStart::kContent, "</think>\n\nanswer", "", "\nanswer"},
    {ReasoningStart::kContent, "a</think>b", "", "a</think>b"},
    {ReasoningStart::kContent, "  </thi", "", "  </thi"},
};

TEST(Reasoning, splits_at_the_tags_and_their_newlines) {
  for (const Case& one : kCases) {
    const ReasoningDelta split = split_reasoning(one.output, one.start);
    EXPECT_EQ(split.reasoning, one.reasoning) << one.output;
    EXPECT_EQ(split.content, one.content) << one.output;
  }
}

TEST(Reasoning, the_prompt_says_where_the_output_starts) {
  EXPECT_EQ(reasoning_start("...<|im_start|>assistant\n<think>\n"), ReasoningStart::kReasoning);
  EXPECT_EQ(reasoning_start("...<think>"), ReasoningStart::kReasoning);
  EXPECT_EQ(reasoning_start("...<think></think>"), ReasoningStart::kContent);
  EXPECT_EQ(reasoning_start("...<think>\n\n</think>\n\n"), ReasoningStart::kContent);
  EXPECT_EQ(reasoning_start("...<|im_start|>assistant\n"), ReasoningStart::kUndecided);
  EXPECT_EQ(reasoning_start(""), ReasoningStart::kUndecided);
  // The newline after the tag is the prompt's or the model's.
  EXPECT_EQ(split_reasoning("\na\n</think>\nb", ReasoningStart::kReasoning, true).reasoning, "\na");
  EXPECT_EQ(split_reasoning("\na\n</think>\nb", ReasoningStart::kReasoning, false).reasoning, "a");
  ReasoningParser parser = ReasoningParser::for_prompt("<think>");
  EXPECT_EQ(parser.push("\na").reasoning, "a");
  EXPECT_TRUE(parser.in_reasoning());
  EXPECT_EQ(parser.push("</think>\nb").content, "b");
  EXPECT_FALSE(parser.in_reasoning());
}

TEST(Reasoning, streaming_equals_splitting_at_once_for_any_chunks) {
  const std::string_view kPieces[] = {
      "<think>", "</think>", "<", "/",  "think>", "\n", "\n\n", "</",   "a",           "b c", "</thi",
      "nk>",     " ",        "é", "<t", "日本",   "th", ">",    "text", "<tool_call>", "\t",  "\r\n"};
  Rng rng(7, 1);
  for (int round = 0; round < 20'000; ++round) {
    std::string output;
    for (uint64_t i = rng.below(9); i > 0; --i) output += kPieces[rng.below(std::size(kPieces))];
    const auto start = static_cast<ReasoningStart>(rng.below(3));
    const bool newline_seen = rng.below(2) == 0;
    const ReasoningDelta whole = split_reasoning(output, start, newline_seen);
    ReasoningParser parser(start, newline_seen);
    ReasoningDelta streamed;
    for (size_t pos = 0; pos < output.size();) {
      const size_t size = std::min<size_t>(1 + rng.below(4), output.size() - pos);
      const ReasoningDelta delta = parser.push(std::string_view(output).substr(pos, size));
      streamed.reasoning += delta.reasoning;
      // Reasoning never follows content.
      ASSERT_TRUE(delta.reasoning.empty() || streamed.content.empty()) << output;
      streamed.content += delta.content;
      pos += size;
    }
    const ReasoningDelta rest = parser.finish();
    streamed.reasoning += rest.reasoning;
    streamed.content += rest.content;
    ASSERT_EQ(streamed.reasoning, whole.reasoning) << output;
    ASSERT_EQ(streamed.content, whole.content) << output;
    // Nothing is lost but tags and the newlines beside them.
    ASSERT_LE(output.size(), whole.reasoning.size() + whole.content.size() + 2 * 8 + 3 +
                                 output.find_first_not_of(" \t\r\n"));
  }
}

TEST(Reasoning, a_conversation_rendered_again_is_the_text_the_model_saw_and_wrote) {
  const auto source =
      io::read_file(std::string(NEMOFORGE_SOURCE_DIR) + "/tests/data/templates/nemotron3_like.jinja");
  ASSERT_TRUE(source);
  const auto chat = ChatTemplate::from_source(*source);
  ASSERT_TRUE(chat) << chat.error().to_string();
  for (const std::string output :
       {"why\n</think>\nanswer", "why\n\n</think>\n\nanswer", "\nwhy\n</think>\n\n\nanswer"}) {
    io::Json messages = {{{"role", "user"}, {"content", "question"}}};
    const std::string prompt = chat->render({.messages = &messages}).value();
    const ReasoningDelta split = split_reasoning(output, reasoning_start(prompt));
    messages.push_back(
        {{"role", "assistant"}, {"content", split.content}, {"reasoning_content", split.reasoning}});
    const auto again = chat->render({.messages = &messages, .add_generation_prompt = false});
    EXPECT_EQ(again.value(), prompt + output + "<|im_end|>\n");
  }
}

}  // namespace
}  // namespace nemoforge::text
