#include "text/tokenizer/stream_decoder.h"

#include <utility>

#include "text/utf8.h"

namespace nemoforge::text {

std::string StreamDecoder::push(int32_t id) {
  if (skip_special_tokens_ && tokenizer_->is_special(id)) return {};
  held_back_ += tokenizer_->token_bytes(id);
  // A code point's first byte is never another's trail byte, so repairing up to it changes nothing behind it.
  const size_t ready = held_back_.size() - incomplete_utf8_suffix(held_back_);
  std::string text = repair_utf8(std::string_view(held_back_).substr(0, ready));
  held_back_.erase(0, ready);
  return text;
}

std::string StreamDecoder::finish() {
  return repair_utf8(std::exchange(held_back_, {}));
}

}  // namespace nemoforge::text
