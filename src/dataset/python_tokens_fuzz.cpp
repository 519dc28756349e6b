#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "dataset/problem_structure.h"
#include "dataset/python_tokens.h"

// Any text has tokens that lie in it, one after the other.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const char* end = source.data();
  for (const std::string_view token : nemoforge::dataset::python_tokens(source)) {
    NF_CHECK(!token.empty() && token.data() >= end);
    end = token.data() + token.size();
    NF_CHECK(end <= source.data() + source.size());
  }
  NF_CHECK(nemoforge::dataset::structure_hash(nemoforge::dataset::structure_tokens(source)).size() == 64);
  return 0;
}
