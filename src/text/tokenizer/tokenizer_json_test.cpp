// What a tokenizer.json may hold, and what is refused, by name.
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "base/temporary_folder.h"
#include "io/file.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/tokenizer.h"

namespace nemoforge::text {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

// The smallest tokenizer: the bytes, "ab", and GPT-2's pre-tokenizer.
Json smallest() {
  Json root = Json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}})");
  for (int byte = 0; byte < 256; ++byte) {
    root["model"]["vocab"][spelling_of_bytes(std::string(1, static_cast<char>(byte)))] = byte;
  }
  root["model"]["vocab"]["ab"] = 256;
  return root;
}

Json added_token(const std::string& content, int id) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

struct Refusal {
  const char* name;
  std::function<void(Json&)> change;
  ErrorCode code;
  const char* message;
};

void PrintTo(const Refusal& refusal, std::ostream* out) {
  *out << refusal.name;
}

Json split(const char* pattern) {
  return {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
}

Json frame(const Json& single) {
  return {{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", Json::object()}};
}

class TokenizerJsonRefusal : public testing::TestWithParam<Refusal> {};

TEST_P(TokenizerJsonRefusal, names_what_it_does_not_do) {
  Json root = smallest();
  GetParam().change(root);
  const auto tokenizer = Tokenizer::from_json(root.dump());
  ASSERT_FALSE(tokenizer);
  EXPECT_EQ(tokenizer.error().code, GetParam().code) << tokenizer.error().message;
  EXPECT_THAT(tokenizer.error().message, HasSubstr(GetParam().message));
}

constexpr ErrorCode kUnsupported = ErrorCode::kUnsupported;
constexpr ErrorCode kInvalid = ErrorCode::kInvalidData;

const Refusal kRefusals[] = {
    {"version", [](Json& r) { r["version"] = "2.0"; }, kUnsupported, "version \"2.0\""},
    {"not_an_object", [](Json& r) { r = Json::array(); }, kInvalid, "expected an object"},
    {"no_model", [](Json& r) { r.erase("model"); }, kInvalid, "model"},
    {"other_model", [](Json& r) { r["model"]["type"] = "Unigram"; }, kUnsupported, "Unigram"},
    {"normalizer",
     [](Json& r) {
       r["normalizer"] = {{"type", "NFC"}};
     },
     kUnsupported, "normalizer: \"NFC\""},
    {"dropout", [](Json& r) { r["model"]["dropout"] = 0.1; }, kUnsupported, "dropout 0.1"},
    {"byte_fallback", [](Json& r) { r["model"]["byte_fallback"] = true; }, kUnsupported, "byte_fallback"},
    {"subword_prefix", [](Json& r) { r["model"]["continuing_subword_prefix"] = "##"; }, kUnsupported, "##"},
    {"word_suffix", [](Json& r) { r["model"]["end_of_word_suffix"] = "</w>"; }, kUnsupported, "</w>"},
    {"byte_missing", [](Json& r) { r["model"]["vocab"].erase("Ċ"); }, kUnsupported, "Ċ"},
    {"id_twice", [](Json& r) { r["model"]["vocab"]["cd"] = 256; }, kInvalid, "both have id 256"},
    {"id_negative", [](Json& r) { r["model"]["vocab"]["cd"] = -1; }, kInvalid, "cd"},
    {"id_fractional", [](Json& r) { r["model"]["vocab"]["cd"] = 1.5; }, kInvalid, "cd"},
    {"id_huge", [](Json& r) { r["model"]["vocab"]["cd"] = 18446744073709551615u; }, kInvalid, "cd"},
    {"vocab_array", [](Json& r) { r["model"]["vocab"] = Json::array(); }, kInvalid, "vocab"},
    {"merges_missing", [](Json& r) { r["model"].erase("merges"); }, kInvalid, "merges"},
    {"merge_unknown", [](Json& r) { r["model"]["merges"].push_back("x y"); }, kInvalid, "merge 1"},
    {"merge_of_three", [](Json& r) { r["model"]["merges"].push_back("a b c"); }, kInvalid, "merge 1"},
    {"merge_number", [](Json& r) { r["model"]["merges"].push_back(7); }, kInvalid, "merge 1"},
    {"added_id", [](Json& r) { r["added_tokens"] = Json::array({added_token("<s>", 300)}); }, kInvalid,
     "expected 257"},
    {"added_empty", [](Json& r) { r["added_tokens"] = Json::array({added_token("", 257)}); }, kInvalid,
     "has 0 bytes"},
    {"added_twice",
     [](Json& r) {
       r["added_tokens"] = Json::array({added_token("x", 120), added_token("x", 120)});
     },
     kInvalid, "is there twice"},
    {"added_long",
     [](Json& r) { r["added_tokens"] = Json::array({added_token(std::string(2000, 'x'), 257)}); }, kInvalid,
     "2000 bytes"},
    {"added_flag",
     [](Json& r) {
       r["added_tokens"] = {{{"id", 257}, {"content", "<s>"}}};
     },
     kInvalid, "single_word"},
    {"no_pre_tokenizer", [](Json& r) { r["pre_tokenizer"] = nullptr; }, kUnsupported, "ByteLevel"},
    {"metaspace",
     [](Json& r) {
       r["pre_tokenizer"] = {{"type", "Metaspace"}};
     },
     kUnsupported, "Metaspace"},
    {"after_byte_level",
     [](Json& r) {
       r["pre_tokenizer"] = {
           {"type", "Sequence"},
           {"pretokenizers", {r["pre_tokenizer"], {{"type", "Digits"}, {"individual_digits", true}}}}};
     },
     kUnsupported, "after ByteLevel"},
    {"sequence_depth",
     [](Json& r) {
       for (int i = 0; i < 20; ++i)
         r["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {r["pre_tokenizer"]}}};
     },
     kUnsupported, "nested"},
    {"behavior",
     [](Json& r) { (r["pre_tokenizer"] = split("a"))["pretokenizers"][0]["behavior"] = "Merged"; },
     kUnsupported, "Merged"},
    {"regex_syntax", [](Json& r) { r["pre_tokenizer"] = split("(a"); }, kUnsupported, "(a"},
    {"regex_nested_class", [](Json& r) { r["pre_tokenizer"] = split("[a[bc]]"); }, kUnsupported, "nested"},
    {"regex_word", [](Json& r) { r["pre_tokenizer"] = split("\\w+"); }, kUnsupported, "\\w"},
    {"regex_back_reference", [](Json& r) { r["pre_tokenizer"] = split("(a)\\1"); }, kUnsupported, "\\1"},
    {"regex_script", [](Json& r) { r["pre_tokenizer"] = split("\\p{Han}"); }, kUnsupported, "Han"},
    {"no_decoder", [](Json& r) { r["decoder"] = nullptr; }, kUnsupported, "decoder"},
    {"other_decoder", [](Json& r) { r["decoder"]["type"] = "WordPiece"; }, kUnsupported, "WordPiece"},
    {"post_processor",
     [](Json& r) {
       r["post_processor"] = {{"type", "BertProcessing"}};
     },
     kUnsupported, "Bert"},
    {"template_without_text", [](Json& r) { r["post_processor"] = frame(Json::array()); }, kUnsupported,
     "text"},
    {"template_second_text",
     [](Json& r) {
       r["post_processor"] = frame({{{"Sequence", {{"id", "B"}}}}});
     },
     kUnsupported, "\"B\""},
    {"template_token",
     [](Json& r) {
       r["post_processor"] = frame({{{"SpecialToken", {{"id", "<s>"}}}}});
     },
     kInvalid, "<s>"},
};

INSTANTIATE_TEST_SUITE_P(All, TokenizerJsonRefusal, testing::ValuesIn(kRefusals),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(TokenizerJson, the_smallest_tokenizer_works) {
  const auto tokenizer = Tokenizer::from_json(smallest().dump());
  ASSERT_TRUE(tokenizer) << tokenizer.error().to_string();
  EXPECT_EQ(tokenizer->encode("ab ba"), (std::vector<int32_t>{256, ' ', 'b', 'a'}));
  EXPECT_EQ(tokenizer->encode(""), std::vector<int32_t>{});
}

TEST(TokenizerJson, truncated_and_corrupted_files_are_errors_or_tokenizers_but_never_crashes) {
  const std::string text = smallest().dump();
  Rng rng(3);
  for (int round = 0; round < 400; ++round) {
    std::string damaged = text;
    if (round % 2 == 0) damaged.resize(rng.below(text.size()));
    for (int i = 0; i < 3 && !damaged.empty(); ++i) {
      damaged[rng.below(damaged.size())] = static_cast<char>(rng.below(256));
    }
    const auto tokenizer = Tokenizer::from_json(damaged);
    if (tokenizer) {
      EXPECT_FALSE(tokenizer->encode("ab 12").empty()) << damaged;
    }
  }
  EXPECT_FALSE(Tokenizer::from_json(std::string(1'000'000, '[')));
}

TEST(TokenizerJson, a_pattern_that_explodes_ends_at_its_limit_and_the_rest_is_still_encoded) {
  Json root = smallest();
  root["pre_tokenizer"] = split("(?:a|a|aa)+$(?<=b)");
  const auto tokenizer = Tokenizer::from_json(root.dump());
  ASSERT_TRUE(tokenizer) << tokenizer.error().to_string();
  const std::string text(64, 'a');
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

TEST(TokenizerJson, a_config_with_other_ids_than_the_tokenizer_is_refused) {
  const TemporaryFolder folder = TemporaryFolder::create().value();
  Json root = smallest();
  root["added_tokens"] = Json::array({added_token("<s>", 257)});
  ASSERT_TRUE(io::write_file_atomically(folder.path("tokenizer.json"), root.dump()));
  const auto load_with = [&](const char* config) {
    EXPECT_TRUE(io::write_file_atomically(folder.path("tokenizer_config.json"), config));
    return Tokenizer::load(folder.path());
  };
  EXPECT_TRUE(
      load_with(R"({"added_tokens_decoder": {"257": {"content": "<s>"}}, "model_max_length": Infinity})"));
  const auto other = load_with(R"({"added_tokens_decoder": {"258": {"content": "<s>"}}})");
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().message, HasSubstr("tokenizer_config.json"));
  EXPECT_THAT(other.error().message, HasSubstr("258"));
  EXPECT_FALSE(load_with(R"({"added_tokens_decoder": {"258": {"content": "<absent>"}}})"));
  EXPECT_FALSE(load_with(R"({"added_tokens_decoder": {"258": 7}})"));
  EXPECT_FALSE(Tokenizer::load(folder.path("absent")));
}

}  // namespace
}  // namespace nemoforge::text
