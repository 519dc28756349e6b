// Text to token ids and back: byte-level BPE as tokenizer.json describes it, equal to the tokenizers package.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace nemoforge::text {

struct TokenizerParts;

// Immutable once loaded: any number of threads may use one without a lock.
class Tokenizer {
 public:
  // Reads `model_dir`/tokenizer.json, and checks the ids that `model_dir`/tokenizer_config.json gives to
  // added tokens against it where there is one (transformers would add what is missing; we say so instead).
  // Errors name the file.
  [[nodiscard]] static Result<Tokenizer> load(const std::string& model_dir);
  // From the text of a tokenizer.json. kInvalidData where it is malformed, kUnsupported (naming the
  // component) where it is a tokenizer that this is not: other models than byte-level BPE, normalizers,
  // dropout.
  [[nodiscard]] static Result<Tokenizer> from_json(std::string_view tokenizer_json);

  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // The ids of `text`. Bytes that are not UTF-8 count as U+FFFD, one for each maximal ill-formed subpart (as
  // Rust's from_utf8_lossy has it). Added tokens in the text, special ones included, become their ids, as in
  // the package. `add_special_tokens` adds what the post-processor's template has around a text.
  // O(n log n) at worst, linear for text of words.
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text, bool add_special_tokens = false) const;

  // The text of `ids`, well-formed UTF-8: bytes that are not become U+FFFD. Ids that are no token's are left
  // out, as in the package.
  [[nodiscard]] std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = false) const;

  // By the token's spelling in tokenizer.json ("Ġthe", "<|im_end|>").
  [[nodiscard]] std::optional<int32_t> token_to_id(std::string_view spelling) const;
  // The spelling, and the bytes that the token decodes to (which need not be whole code points); empty where
  // no token has the id.
  [[nodiscard]] std::string_view token(int64_t id) const;
  [[nodiscard]] std::string_view token_bytes(int64_t id) const;
  [[nodiscard]] bool has_token(int64_t id) const;
  // A special token: left out where special tokens are skipped.
  [[nodiscard]] bool is_special(int64_t id) const;
  // One more than the largest id (ids between may be no token's; a model's embedding may have further rows).
  [[nodiscard]] int32_t vocab_size() const;

 private:
  explicit Tokenizer(TokenizerParts parts);

  std::unique_ptr<const TokenizerParts> parts_;
};

}  // namespace nemoforge::text
