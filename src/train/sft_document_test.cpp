#include "train/sft_document.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/temporary_folder.h"
#include "io/file.h"
#include "train/packing.h"
#include "train/sft_dataset.h"

namespace nemoforge::train {
namespace {

const std::string kDemo = NEMOFORGE_SOURCE_DIR "/models/demo";

// The demo's tokenizer and template; or another template on the same tokenizer.
struct Format {
  explicit Format(Result<text::ChatTemplate> loaded = text::ChatTemplate::load(kDemo))
      : tokenizer(text::Tokenizer::load(kDemo).value()), chat_template(std::move(loaded).value()) {}
  [[nodiscard]] SftFormat get() const { return {&tokenizer, &chat_template, {2, 11}}; }

  text::Tokenizer tokenizer;
  text::ChatTemplate chat_template;
};

io::Json json(const std::string& text) {
  return io::parse_json(text).value();
}

// Runs of tokens with or without loss, as texts: without, with, without, ...
std::vector<std::string> runs(const SftDocument& document, const text::Tokenizer& tokenizer) {
  std::vector<std::string> texts;
  bool has_loss = true;
  std::vector<int32_t> ids;
  for (size_t i = 0; i <= document.token_ids.size(); ++i) {
    if (i == document.token_ids.size() || document.has_loss[i] != has_loss) {
      if (!ids.empty()) texts.push_back(tokenizer.decode(ids));
      ids.clear();
      if (i < document.token_ids.size()) has_loss = document.has_loss[i];
    }
    if (i < document.token_ids.size()) ids.push_back(document.token_ids[i]);
  }
  return texts;
}

TEST(SftDocument, has_loss_on_reasoning_answer_and_end_of_turn_alone) {
  const Format format;
  const auto documents = make_sft_documents(json(R"({"messages":[{"role":"user","content":"Hi"},
               {"role":"assistant","reasoning_content":"Greet.","content":"Hello!"}]})"),
                                            format.get());
  ASSERT_TRUE(documents.has_value()) << documents.error().to_string();
  ASSERT_EQ(documents->size(), 1u);
  EXPECT_EQ(runs(documents->front(), format.tokenizer),
            (std::vector<std::string>{"<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
                                      "<|im_start|>assistant\n<think>\n",
                                      "Greet.\n</think>\nHello!<|im_end|>"}));
}

TEST(SftDocument, a_turn_without_reasoning_follows_the_prompt_that_turns_thinking_off) {
  const Format format;
  const auto documents = make_sft_documents(
      json(R"({"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello!"},
               {"role":"user","content":"Bye"},{"role":"assistant","content":"Bye!"}]})"),
      format.get());
  ASSERT_TRUE(documents.has_value()) << documents.error().to_string();
  ASSERT_EQ(documents->size(), 1u);
  const auto texts = runs(documents->front(), format.tokenizer);
  ASSERT_EQ(texts.size(), 4u);
  EXPECT_TRUE(texts[0].ends_with("<|im_start|>assistant\n<think></think>")) << texts[0];
  EXPECT_EQ(texts[1], "Hello!<|im_end|>");
  EXPECT_EQ(texts[3], "Bye!<|im_end|>");
}

TEST(SftDocument, tokens_are_those_of_serving_where_one_would_straddle_the_edge) {
  const Format format;
  // The reasoning begins with newlines, which a tokenizer of the whole text joins with the prompt's own.
  const auto documents = make_sft_documents(json(R"({"messages":[{"role":"user","content":"Hi"},
               {"role":"assistant","reasoning_content":"\n\n\nGreet.","content":"Hello!"}]})"),
                                            format.get());
  ASSERT_TRUE(documents.has_value());
  const std::string prompt =
      "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n";
  const std::vector<int32_t> prompt_ids = format.tokenizer.encode(prompt);
  const SftDocument& document = documents->front();
  ASSERT_GT(document.token_ids.size(), prompt_ids.size());
  EXPECT_TRUE(std::equal(prompt_ids.begin(), prompt_ids.end(), document.token_ids.begin()));
  EXPECT_FALSE(document.has_loss[prompt_ids.size() - 1]);
  EXPECT_TRUE(document.has_loss[prompt_ids.size()]);
}

TEST(SftDocument, a_template_that_drops_earlier_reasoning_gives_each_turn_its_own_document) {
  const Format format(text::ChatTemplate::from_source(
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}"
      "{{ '<think>\\n' + (m.reasoning_content if loop.last else '') + '</think>' }}{% endif %}"
      "{{ m.content + '<|im_end|>\\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"));
  const auto documents = make_sft_documents(json(R"({"messages":[{"role":"user","content":"Hi"},
               {"role":"assistant","reasoning_content":"First.","content":"Hello!"},
               {"role":"user","content":"Bye"},
               {"role":"assistant","reasoning_content":"Second.","content":"Bye!"}]})"),
                                            format.get());
  ASSERT_TRUE(documents.has_value()) << documents.error().to_string();
  ASSERT_EQ(documents->size(), 2u);
  EXPECT_EQ(runs((*documents)[0], format.tokenizer).back(), "First.</think>Hello!<|im_end|>");
  const auto second = runs((*documents)[1], format.tokenizer);
  ASSERT_EQ(second.size(), 2u);
  EXPECT_NE(second[0].find("</think>Hello!"), std::string::npos);
  EXPECT_EQ(second[0].find("First."), std::string::npos);
  EXPECT_EQ(second[1], "Second.</think>Bye!<|im_end|>");
}

TEST(SftDocument, rejects_rows_without_a_turn_to_learn) {
  const Format format;
  for (const char* row : {"[]", "{}", R"({"messages":[{"role":"user","content":"Hi"}]})",
                          R"({"messages":[{"content":"Hi"}]})", R"({"messages":[3]})"}) {
    const auto documents = make_sft_documents(json(row), format.get());
    ASSERT_FALSE(documents.has_value()) << row;
    EXPECT_EQ(documents.error().code, ErrorCode::kInvalidData) << row;
  }
}

class SftDatasetTest : public testing::Test {
 protected:
  Result<SftDataset> read(const std::string& text, const SftLimits& limits = {.max_tokens = 4096}) {
    const std::string path = folder_.path("sft.jsonl");
    EXPECT_TRUE(io::write_file_atomically(path, text).has_value());
    return read_sft_dataset(path, format_.get(), limits);
  }

  static std::string row(const std::string& answer) {
    return R"({"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":")" + answer +
           "\"}]}\n";
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
  Format format_;
};

TEST_F(SftDatasetTest, names_the_line_that_is_wrong) {
  const auto dataset = read(row("a") + "\n" + "{\"messages\": 3}\n");
  ASSERT_FALSE(dataset.has_value());
  EXPECT_NE(dataset.error().message.find(":3: "), std::string::npos) << dataset.error().message;
}

TEST_F(SftDatasetTest, an_empty_file_is_an_error) {
  for (const char* text : {"", "\n\n"}) {
    const auto dataset = read(text);
    ASSERT_FALSE(dataset.has_value());
    EXPECT_NE(dataset.error().message.find("holds no conversations"), std::string::npos);
  }
}

TEST_F(SftDatasetTest, a_long_document_fails_or_is_skipped_and_counted) {
  const std::string text = row("a") + row(std::string(400, 'x') + " y z");
  const auto failed = read(text, {.max_tokens = 30});
  ASSERT_FALSE(failed.has_value());
  EXPECT_NE(failed.error().message.find(":2: the conversation has "), std::string::npos);
  const auto skipped = read(text, {.max_tokens = 30, .long_documents = LongDocuments::kSkip});
  ASSERT_TRUE(skipped.has_value());
  EXPECT_EQ(skipped->documents.size(), 1u);
  EXPECT_EQ(skipped->num_skipped, 1);
}

TEST_F(SftDatasetTest, the_evaluation_split_is_drawn_by_seed_and_line) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += row("answer " + std::to_string(i));
  auto first = read(text);
  auto second = read(text);
  ASSERT_TRUE(first.has_value() && second.has_value());
  const SftDataset held_out = split_off_evaluation(*first, 0.25, 7);
  EXPECT_EQ(held_out.lines, split_off_evaluation(*second, 0.25, 7).lines);
  EXPECT_EQ(held_out.documents.size() + first->documents.size(), 40u);
  EXPECT_GT(held_out.documents.size(), 3u);
  EXPECT_LT(held_out.documents.size(), 20u);
}

std::vector<SftDocument> documents_of_lengths(const std::vector<size_t>& lengths) {
  std::vector<SftDocument> documents;
  for (size_t d = 0; d < lengths.size(); ++d) {
    SftDocument document;
    for (size_t i = 0; i < lengths[d]; ++i) {
      document.token_ids.push_back(static_cast<int32_t>(100 * d + i));
      document.has_loss.push_back(i >= 2);
    }
    documents.push_back(std::move(document));
  }
  return documents;
}

TEST(Packing, an_epoch_has_every_document_once_within_the_budget) {
  const auto documents = documents_of_lengths({5, 9, 3, 30, 7, 4, 6, 8});
  const auto steps = plan_epoch(documents, 3, {.micro_batch_tokens = 12, .grad_accum = 2, .seed = 1});
  std::vector<int64_t> seen;
  for (const StepPlan& step : steps) {
    EXPECT_LE(step.size(), 2u);
    for (const auto& micro_batch : step) {
      int64_t rows = 0;
      for (const int64_t idx : micro_batch) {
        rows += static_cast<int64_t>(documents[static_cast<size_t>(idx)].token_ids.size()) - 1;
        seen.push_back(idx);
      }
      EXPECT_TRUE(rows <= 12 || micro_batch.size() == 1) << rows;
    }
  }
  EXPECT_NE(steps, plan_epoch(documents, 4, {.micro_batch_tokens = 12, .grad_accum = 2, .seed = 1}));
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(Packing, targets_are_the_next_tokens_that_have_loss) {
  const auto documents = documents_of_lengths({4, 3});
  const TrainBatch batch = make_train_batch(documents, std::vector<int64_t>{1, 0});
  EXPECT_EQ(batch.token_ids, (std::vector<int32_t>{100, 101, 0, 1, 2}));
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{-1, 102, -1, 2, 3}));
  EXPECT_EQ(batch.cu_seqlens, (std::vector<int32_t>{0, 2, 5}));
}

}  // namespace
}  // namespace nemoforge::train
