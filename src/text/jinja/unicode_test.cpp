#include "text/jinja/unicode.h"

#include <gtest/gtest.h>

namespace nemoforge::text::jinja {
namespace {

// That all of it equals Python is tested by jinja_parity_test; here, the cases that the tables alone do not
// decide.
TEST(JinjaUnicode, a_sigma_that_ends_a_word_is_final) {
  EXPECT_EQ(to_lower("ΑΣ ΣΑΣ Σ"), "ας σας σ");
  EXPECT_EQ(to_lower("ΑΣ\xCC\x81Α"), "ασ\xCC\x81α");  // a combining accent does not end the word
  EXPECT_EQ(to_lower("ΑΣ.Α"), "ασ.α");                // nor does a full stop, by the rule
}

TEST(JinjaUnicode, one_character_may_become_several) {
  EXPECT_EQ(to_upper("straße ﬁ"), "STRASSE FI");
  EXPECT_EQ(to_title("ﬁx ǆ"), "Fix ǅ");
  EXPECT_EQ(capitalize("ßA"), "Ssa");
}

TEST(JinjaUnicode, strips_white_space_of_all_kinds_or_given_characters) {
  EXPECT_EQ(strip("\u3000\u00a0 a\u2028b \u2003", Side::kBoth), "a\u2028b");
  EXPECT_EQ(strip("éaé", Side::kLeft, "é"), "aé");
  EXPECT_EQ(strip("\xC3\xA9\xC3\xA8", Side::kRight, "\xC3\xA8"), "\xC3\xA9");
}

TEST(JinjaUnicode, offsets_are_by_code_point) {
  const std::string_view text = "aé日👍b";
  EXPECT_EQ(code_point_length(text), 5);
  EXPECT_EQ(byte_offset(text, 3), 6u);
  EXPECT_EQ(byte_offset(text, 9), text.size());
  EXPECT_EQ(find_linear(text, "👍"), 6u);
}

}  // namespace
}  // namespace nemoforge::text::jinja
