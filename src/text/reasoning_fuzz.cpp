// Splitting an output as it streams in equals splitting it at once, whatever the bytes and the chunks.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "text/reasoning.h"

// The first byte chooses the start, the second the sizes of the chunks.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nemoforge::text;
  if (size < 2) return 0;
  const auto start = static_cast<ReasoningStart>(data[0] % 3);
  const bool newline_seen = (data[0] & 0x80) != 0;
  const std::string_view output(reinterpret_cast<const char*>(data) + 2, size - 2);
  const ReasoningDelta whole = split_reasoning(output, start, newline_seen);
  ReasoningParser parser(start, newline_seen);
  ReasoningDelta streamed;
  uint32_t state = data[1];
  for (size_t pos = 0; pos < output.size();) {
    state = state * 1664525u + 1013904223u;
    const size_t chunk = std::min<size_t>(1 + (state >> 28), output.size() - pos);
    const ReasoningDelta delta = parser.push(output.substr(pos, chunk));
    streamed.reasoning += delta.reasoning;
    streamed.content += delta.content;
    pos += chunk;
  }
  const ReasoningDelta rest = parser.finish();
  NF_CHECK(streamed.reasoning + rest.reasoning == whole.reasoning);
  NF_CHECK(streamed.content + rest.content == whole.content);
  return 0;
}
