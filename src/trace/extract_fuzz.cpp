#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "trace/extract.h"

// Whatever a model answers, the code is made of its bytes, and a fenced block gives back a code without
// fences.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view answer(reinterpret_cast<const char*>(data), size);
  const std::string code = nemoforge::trace::extract_python_code(answer);
  NF_CHECK(code.size() <= answer.size() + 1);
  NF_CHECK(code.empty() || code.back() == '\n');
  std::string plain;
  for (const char c : answer) plain += c == '`' || c == '~' || c == '\r' ? '_' : c;
  if (!plain.ends_with('\n')) plain += '\n';
  NF_CHECK(nemoforge::trace::extract_python_code("```python\n" + plain + "```") == plain);
  return 0;
}
