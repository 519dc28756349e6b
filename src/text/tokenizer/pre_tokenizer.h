// What happens to a text between the added tokens and the BPE: it is split into words, the pieces that merges
// never cross.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/split_regex.h"

namespace nemoforge::text {

// What becomes of a match of a Split's pattern (the names of tokenizer.json).
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct Split {
  SplitRegex regex;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // the pattern describes what is kept, not what separates
};

// A sequence of Splits and the ByteLevel step that ends it.
class PreTokenizer {
 public:
  // `word_regex` is ByteLevel's own pattern (GPT-2's) where it is used.
  PreTokenizer(std::vector<Split> splits, bool add_prefix_space, std::optional<SplitRegex> word_regex)
      : splits_(std::move(splits)), add_prefix_space_(add_prefix_space), word_regex_(std::move(word_regex)) {}

  // A text cut into words: spans of `text`, none of them empty.
  struct Words {
    std::string text;  // the input, with the prefix spaces that were added
    std::vector<Span> spans;
  };

  // Cuts `text`, which is well-formed UTF-8. `words` is reused from call to call.
  void cut(std::string_view text, Words& words) const;

 private:
  std::vector<Split> splits_;
  bool add_prefix_space_;
  std::optional<SplitRegex> word_regex_;
};

// The pieces of `text[piece]` after one Split, appended to `pieces`: none is empty.
void apply_split(const Split& split, std::string_view text, Span piece, std::vector<Span>& pieces);

}  // namespace nemoforge::text
