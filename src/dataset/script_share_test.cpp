#include "dataset/script_share.h"

#include <gtest/gtest.h>

namespace nemoforge::dataset {
namespace {

TEST(ScriptShare, counts_letters_alone) {
  EXPECT_EQ(non_latin_share(""), 0);
  EXPECT_EQ(non_latin_share("x = 3 * 4; # é, ß, α ≤ ε 🙂 — 100%"), 0);
  EXPECT_DOUBLE_EQ(non_latin_share("ab我们"), 0.5);
  EXPECT_DOUBLE_EQ(non_latin_share("Привет"), 1);
  EXPECT_DOUBLE_EQ(non_latin_share("カーネル, 커널"), 1);
  EXPECT_EQ(non_latin_share("\xff\xfe a"), 0);
}

}  // namespace
}  // namespace nemoforge::dataset
