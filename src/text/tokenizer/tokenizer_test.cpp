#include "text/tokenizer/tokenizer.h"

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "io/json.h"
#include "text/tokenizer/stream_decoder.h"
#include "text/utf8.h"

namespace nemoforge::text {
namespace {

const std::string kSource = NEMOFORGE_SOURCE_DIR;

const Tokenizer& demo() {
  static const Tokenizer tokenizer = [] {
    auto loaded = Tokenizer::load(kSource + "/models/demo");
    EXPECT_TRUE(loaded) << loaded.error().to_string();
    return std::move(*loaded);
  }();
  return tokenizer;
}

TEST(Tokenizer, gives_the_ids_of_the_recorded_cases) {
  const auto cases = io::read_json_file(kSource + "/tests/data/tokenizer_cases.json");
  ASSERT_TRUE(cases) << cases.error().to_string();
  ASSERT_EQ(cases->size(), 2000u);
  for (const io::Json& one : *cases) {
    const auto& text = one["text"].get_ref<const std::string&>();
    const auto ids = one["ids"].get<std::vector<int32_t>>();
    ASSERT_EQ(demo().encode(text), ids) << text;
    ASSERT_EQ(demo().decode(ids), one["decoded"].get_ref<const std::string&>()) << text;
  }
}

TEST(Tokenizer, knows_its_tokens) {
  EXPECT_EQ(demo().vocab_size(), 4096);
  EXPECT_EQ(demo().token_to_id("<|im_end|>"), 11);
  EXPECT_EQ(demo().token(11), "<|im_end|>");
  EXPECT_TRUE(demo().is_special(11));
  const auto spaces = demo().token_to_id("ĠĠ");
  ASSERT_TRUE(spaces);
  EXPECT_EQ(demo().token_bytes(*spaces), "  ");
  EXPECT_FALSE(demo().is_special(*spaces));
  EXPECT_FALSE(demo().token_to_id("no such token"));
  EXPECT_EQ(demo().token_bytes(-1), "");
  EXPECT_EQ(demo().token_bytes(4096), "");
  EXPECT_FALSE(demo().has_token(1 << 30));
}

TEST(Tokenizer, special_tokens_can_be_left_out_of_the_text) {
  const std::vector<int32_t> ids = demo().encode("<|im_start|>user\nhi<|im_end|>");
  EXPECT_EQ(ids.front(), 10);
  EXPECT_EQ(ids.back(), 11);
  EXPECT_EQ(demo().decode(ids), "<|im_start|>user\nhi<|im_end|>");
  EXPECT_EQ(demo().decode(ids, true), "user\nhi");
}

TEST(Tokenizer, bytes_that_are_not_utf8_count_as_replacement_characters) {
  EXPECT_EQ(demo().encode("a\xFF\xC3(\xE2\x82"), demo().encode("a\uFFFD\uFFFD(\uFFFD"));
  EXPECT_EQ(demo().decode(std::vector<int32_t>{*demo().token_to_id("â")}), "\uFFFD");
}

TEST(Tokenizer, one_tokenizer_serves_many_threads) {
  const std::string text = "def kernel(x_ptr, n: tl.constexpr):\n    return \xF0\x9F\x98\x80 + 12345\n";
  const std::vector<int32_t> expected = demo().encode(text);
  std::vector<std::thread> threads;
  std::vector<int> agreed(4, 0);
  for (size_t t = 0; t < agreed.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 200; ++round) agreed[t] += demo().encode(text) == expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(agreed, testing::Each(200));
}

TEST(StreamDecoder, pieces_join_to_the_decoded_text_and_end_between_code_points) {
  Rng rng(7);
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t> ids(rng.below(40));
    // Every other round draws from the single bytes, of which few sequences are UTF-8.
    for (int32_t& id : ids) {
      id = static_cast<int32_t>(round % 2 == 0 ? rng.below(4200) : 16 + rng.below(256));
    }
    const bool skip = rng.below(2) == 0;
    StreamDecoder stream(demo(), skip);
    std::string joined;
    for (const int32_t id : ids) {
      const std::string piece = stream.push(id);
      ASSERT_TRUE(is_valid_utf8(piece)) << "round " << round;
      joined += piece;
    }
    joined += stream.finish();
    ASSERT_EQ(joined, demo().decode(ids, skip)) << "round " << round;
  }
}

TEST(StreamDecoder, holds_back_only_what_may_become_a_code_point) {
  const std::vector<int32_t> ids = {*demo().token_to_id("ð"), *demo().token_to_id("Ł"),
                                    *demo().token_to_id("ĺ"), *demo().token_to_id("Ģ")};
  StreamDecoder stream(demo());
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.push(ids[1]), "");
  EXPECT_EQ(stream.push(ids[2]), "");
  EXPECT_EQ(stream.push(ids[3]), "\xF0\x9F\x98\x80");
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.push(*demo().token_to_id("a")), "\uFFFDa");
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace nemoforge::text
