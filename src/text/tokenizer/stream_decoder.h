// The text of ids that come one at a time.
#pragma once

#include <cstdint>
#include <string>

#include "text/tokenizer/tokenizer.h"

namespace nemoforge::text {

// What push() and finish() return, joined, is Tokenizer::decode of all the ids, and no piece ends within a
// code point: bytes that may still become one are held back (three at most). One per stream; the Tokenizer,
// which must outlive it, is shared.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens = false)
      : tokenizer_(&tokenizer), skip_special_tokens_(skip_special_tokens) {}

  // The text that `id` completes; may be empty.
  [[nodiscard]] std::string push(int32_t id);
  // What was held back, as U+FFFD. The decoder can then begin another stream.
  [[nodiscard]] std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  std::string held_back_;
};

}  // namespace nemoforge::text
