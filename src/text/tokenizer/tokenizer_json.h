// tokenizer.json, as the tokenizers package writes it, read and checked. Whatever a byte-level BPE tokenizer
// of Hugging Face can have and this one has not is an error that names it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/vocabulary.h"

namespace nemoforge::text {

struct TokenizerParts {
  Vocabulary vocabulary;
  Bpe bpe;
  AddedTokenFinder added_tokens;             // found first
  AddedTokenFinder normalized_added_tokens;  // found in what is left (there is no normalizer to run between)
  PreTokenizer pre_tokenizer;
  // What add_special_tokens puts before and after a text.
  std::vector<int32_t> prefix_ids;
  std::vector<int32_t> suffix_ids;
};

// "truncation" and "padding" are not read: how long a prompt may be is the caller's to say, and transformers
// resets both as well.
[[nodiscard]] Result<TokenizerParts> read_tokenizer_json(std::string_view text);

}  // namespace nemoforge::text
