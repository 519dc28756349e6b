#include "trace/extract.h"

#include <string>

#include <gtest/gtest.h>

namespace nemoforge::trace {
namespace {

struct Case {
  const char* name;
  const char* answer;
  const char* code;
};

constexpr Case kCases[] = {
    {"plain", "```python\na = 1\nb = 2\n```", "a = 1\nb = 2\n"},
    {"text_around", "Here it is:\n\n```python\na = 1\n```\nDone.", "a = 1\n"},
    {"last_block_counts", "```python\na = 1\n```\nBetter:\n```py\na = 2\n```\n", "a = 2\n"},
    {"unlabelled", "```\na = 1\n```", "a = 1\n"},
    {"labelled_beats_later_unlabelled", "```python\na = 1\n```\nIt prints\n```\n1\n```", "a = 1\n"},
    {"other_languages_do_not_count", "```python\na = 1\n```\n```bash\npython a.py\n```", "a = 1\n"},
    {"only_other_languages", "```bash\nls\n```", ""},
    {"label_in_capitals_with_attributes", "```Python title=\"k.py\"\na = 1\n```", "a = 1\n"},
    {"triton_label", "```triton\na = 1\n```", "a = 1\n"},
    {"no_block", "I cannot do that.", ""},
    {"empty", "", ""},
    {"empty_block", "```python\n```", ""},
    {"unterminated", "```python\na = 1\nb = 2", "a = 1\nb = 2\n"},
    {"unterminated_after_a_whole_one", "```python\na = 1\n```\n```python\na = 2\n", "a = 2\n"},
    {"never_closed_then_another", "```python\na = 1\n```python\na = 2\n```", "a = 2\n"},
    {"crlf", "```python\r\na = 1\r\nb = 2\r\n```\r\n", "a = 1\nb = 2\n"},
    {"tildes", "~~~python\na = '```'\n```\n~~~\n", "a = '```'\n```\n"},
    {"longer_fence_holds_shorter", "````python\nd = \"\"\"\n```\nx\n```\n\"\"\"\n````",
     "d = \"\"\"\n```\nx\n```\n\"\"\"\n"},
    {"fence_in_a_docstring",
     "```python\ndef f():\n    \"\"\"\n    ```python\n    f()\n    ```\n    \"\"\"\n```",
     "def f():\n    \"\"\"\n    ```python\n    f()\n    ```\n    \"\"\"\n"},
    {"backticks_in_a_comment", "```python\na = 1  # like `b` or ``c``\n```", "a = 1  # like `b` or ``c``\n"},
    {"backticks_in_a_string", "```python\ns = '```'\nt = 2\n```", "s = '```'\nt = 2\n"},
    {"indented_block_of_a_list", "1. So:\n   ```python\n   a = 1\n   if a:\n       b = 2\n   ```\n",
     "a = 1\nif a:\n    b = 2\n"},
    {"closing_fence_a_little_deeper", "```python\na = 1\n  ```\nmore", "a = 1\n"},
    {"labelled_fence_after_text", "The code: ```python\na = 1\n```", "a = 1\n"},
    {"inline_code_is_no_block", "Use ```tl.dot``` here.\n```python\na = 1\n```", "a = 1\n"},
    {"trailing_space_after_the_fences", "```python  \na = 1\n```  \n", "a = 1\n"},
    {"blank_lines_stay", "```python\n\na = 1\n\n```", "\na = 1\n\n"},
    {"tab_indented_code", "```python\nif a:\n\tb = 1\n```", "if a:\n\tb = 1\n"},
    {"only_a_fence", "```", ""},
    {"only_a_labelled_fence", "```python", ""},
    {"unclosed_prose_fence_before", "```\nplan\n```python\na = 1\n```", "a = 1\n"},
    {"not_utf8", "```python\na = '\xff'\n```", "a = '\xff'\n"},
};

TEST(Extract, finds_the_last_python_block) {
  for (const Case& c : kCases) EXPECT_EQ(extract_python_code(c.answer), c.code) << c.name;
}

TEST(Extract, takes_time_in_proportion_to_the_answer) {
  std::string answer;
  for (int i = 0; i < 200000; ++i) answer += "```~~~ `";
  EXPECT_EQ(extract_python_code(answer), "");
  answer.clear();
  for (int i = 0; i < 200000; ++i) answer += "```python\n";
  EXPECT_EQ(extract_python_code(answer), "");
  EXPECT_EQ(extract_python_code(std::string("```python\n\0a\n```", 16)), std::string("\0a\n", 3));
}

}  // namespace
}  // namespace nemoforge::trace
