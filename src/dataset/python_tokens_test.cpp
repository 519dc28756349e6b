#include "dataset/python_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nemoforge::dataset {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(PythonTokens, leaves_out_comments_docstrings_and_layout) {
  EXPECT_THAT(python_tokens("def f(a):  # adds\n    \"\"\"Adds.\n\n    Twice.\"\"\"\n    return a + 1e-5\n"),
              ElementsAre("def", "f", "(", "a", ")", ":", "return", "a", "+", "1e-5"));
  EXPECT_THAT(python_tokens("x = 'a # b'\n'alone'  # note\ny = \\\n  .5"),
              ElementsAre("x", "=", "'a # b'", "y", "=", ".5"));
  EXPECT_THAT(python_tokens("f(\n 'first',\n 'second')"),
              ElementsAre("f", "(", "'first'", ",", "'second'", ")"));
  EXPECT_THAT(python_tokens("s = rb'\\'' f\"{a}\""), ElementsAre("s", "=", "rb'\\''", "f\"{a}\""));
  EXPECT_THAT(python_tokens("0x1e-1"), ElementsAre("0x1e", "-", "1"));
}

TEST(PythonTokens, takes_any_text) {
  EXPECT_THAT(python_tokens(""), IsEmpty());
  EXPECT_THAT(python_tokens("x = '''never closed"), ElementsAre("x", "=", "'''never closed"));
  EXPECT_THAT(python_tokens("x = 'open\ny"), ElementsAre("x", "=", "'open", "y"));
  EXPECT_THAT(python_tokens(")]}\\"), ElementsAre(")", "]", "}", "\\"));
  EXPECT_THAT(python_tokens("x = 'a\\"), ElementsAre("x", "=", "'a\\"));
}

}  // namespace
}  // namespace nemoforge::dataset
