// Reads the input as a tokenizer.json; and, with a tokenizer of bytes and a hostile pattern's worth of added
// tokens, encodes and decodes it: what comes back must be the text as repaired.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/stream_decoder.h"
#include "text/tokenizer/tokenizer.h"
#include "text/utf8.h"

namespace nemoforge::text {
namespace {

constexpr size_t kMaxInputBytes = 1 << 16;

std::string quoted(int byte) {
  const std::string spelling = spelling_of_bytes(std::string(1, static_cast<char>(byte)));
  return spelling == "\"" || spelling == "\\" ? "\"\\" + spelling + "\"" : "\"" + spelling + "\"";
}

Tokenizer make_tokenizer() {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte) vocab += quoted(byte) + ":" + std::to_string(byte) + ",";
  auto tokenizer = Tokenizer::from_json(
      R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"},)"
      R"("added_tokens":[{"id":258,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,)"
      R"("normalized":false,"special":true},{"id":259,"content":"<s><s>!","single_word":true,"lstrip":false,)"
      R"("rstrip":false,"normalized":true,"special":false}],)"
      R"("model":{"type":"BPE","merges":["a a","aa a"],"vocab":{)" +
      vocab + R"("aa":256,"aaa":257}}})");
  NF_CHECK(tokenizer) << tokenizer.error().to_string();
  return std::move(*tokenizer);
}

void check_round_trip(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<int32_t> ids = tokenizer.encode(text);
  NF_CHECK(tokenizer.decode(ids) == repair_utf8(text)) << "the round trip changed the text";
  StreamDecoder stream(tokenizer);
  std::string joined;
  for (const int32_t id : ids) joined += stream.push(id);
  NF_CHECK(joined + stream.finish() == repair_utf8(text)) << "streaming changed the text";
}

}  // namespace
}  // namespace nemoforge::text

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nemoforge::text;
  static const Tokenizer tokenizer = make_tokenizer();
  if (size > kMaxInputBytes) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  check_round_trip(tokenizer, input);
  if (const auto read = Tokenizer::from_json(input)) (void)read->decode(read->encode(input, true));
  return 0;
}
