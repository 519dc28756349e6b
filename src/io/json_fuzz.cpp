// Any bytes as JSON: what parses can be written and parsed again to the same text.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "io/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nemoforge::io;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto strict = parse_json(text, {.reject_duplicate_keys = true});
  (void)parse_json(text, {.allow_non_finite = true});
  if (!strict) return 0;
  const std::string written = dump_json(*strict);
  const auto again = parse_json(written);
  if (!again || dump_json(*again) != written) std::abort();
  return 0;
}
