#include "text/utf8.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace nemoforge::text {
namespace {

using namespace std::string_literals;

TEST(Utf8, every_code_point_survives_the_round_trip) {
  for (char32_t value = 0; value <= 0x10FFFF; ++value) {
    if (value >= 0xD800 && value <= 0xDFFF) continue;
    std::string bytes;
    append_utf8(bytes, value);
    const CodePoint decoded = decode_code_point(bytes, 0);
    ASSERT_TRUE(decoded.well_formed) << std::hex << static_cast<unsigned>(value);
    ASSERT_EQ(decoded.value, value);
    ASSERT_EQ(static_cast<size_t>(decoded.num_bytes), bytes.size());
    ASSERT_EQ(repair_utf8(bytes), bytes);
  }
}

TEST(Utf8, what_is_no_scalar_value_is_written_as_the_replacement_character) {
  for (const char32_t value : {0xD800u, 0xDFFFu, 0x110000u, 0xFFFFFFFFu}) {
    std::string bytes;
    append_utf8(bytes, value);
    EXPECT_EQ(bytes, "\xEF\xBF\xBD");
  }
}

TEST(Utf8, one_replacement_character_for_each_maximal_subpart) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(repair_utf8("a\xFFz"), "a" + r + "z");
  EXPECT_EQ(repair_utf8("\xC0\x80"), r + r);                            // overlong
  EXPECT_EQ(repair_utf8("\xE0\x80\x80"), r + r + r);                    // overlong
  EXPECT_EQ(repair_utf8("\xED\xA0\x80"), r + r + r);                    // a surrogate
  EXPECT_EQ(repair_utf8("\xF4\x90\x80\x80"), r + r + r + r);            // above U+10FFFF
  EXPECT_EQ(repair_utf8("\xE2\x82"), r);                                // cut off
  EXPECT_EQ(repair_utf8("\xF0\x9F\x98 \xF0\x9F!"), r + " " + r + "!");  // cut off, twice
  EXPECT_EQ(repair_utf8("\xE2\x82\xE2\x82\xAC"), r + "\xE2\x82\xAC");   // cut off by a lead byte
  EXPECT_EQ(repair_utf8("12345678\x80"
                        "12345678\x80"),
            "12345678" + r + "12345678" + r);
  EXPECT_EQ(repair_utf8("a\0b"s), "a\0b"s);
}

TEST(Utf8, repair_leaves_valid_text_with_the_same_number_of_code_points) {
  Rng rng(11);
  const std::string alphabet = "az\x80\xBF\xC2\xE0\xA0\xED\x9F\xF0\x90\xF4\x8F\xFF";
  for (int round = 0; round < 20000; ++round) {
    std::string bytes(rng.below(24), 'a');
    for (char& byte : bytes) byte = alphabet[rng.below(alphabet.size())];
    const std::string repaired = repair_utf8(bytes);
    ASSERT_TRUE(is_valid_utf8(repaired));
    ASSERT_EQ(count_code_points(bytes), count_code_points(repaired));
    ASSERT_EQ(is_valid_utf8(bytes), repaired == bytes);
  }
}

TEST(Utf8, incomplete_suffix_is_what_a_next_byte_can_complete) {
  EXPECT_EQ(incomplete_utf8_suffix(""), 0u);
  EXPECT_EQ(incomplete_utf8_suffix("abc"), 0u);
  EXPECT_EQ(incomplete_utf8_suffix("a\xC3"), 1u);
  EXPECT_EQ(incomplete_utf8_suffix("a\xC3\xA9"), 0u);
  EXPECT_EQ(incomplete_utf8_suffix("\xE2\x82"), 2u);
  EXPECT_EQ(incomplete_utf8_suffix("\xF0\x9F\x98"), 3u);
  EXPECT_EQ(incomplete_utf8_suffix("\xF0\x9F\x98\x80"), 0u);
  EXPECT_EQ(incomplete_utf8_suffix("\xED\xA0"), 0u);  // never a code point, whatever follows
  EXPECT_EQ(incomplete_utf8_suffix("\xC0"), 0u);
  EXPECT_EQ(incomplete_utf8_suffix("\x80\x80\x80"), 0u);  // trail bytes alone
  EXPECT_EQ(incomplete_utf8_suffix("\xE2\x82\xF0"), 1u);
}

}  // namespace
}  // namespace nemoforge::text
