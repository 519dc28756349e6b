// The tokens that are found in a text before it is split and merged: special tokens and those that a user
// added.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/split_regex.h"

namespace nemoforge::text {

// An entry of tokenizer.json's "added_tokens"; the flags have its names.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool single_word = false;  // found only where no word character touches it
  bool lstrip = false;       // takes the white space on its left with it
  bool rstrip = false;
  bool normalized = false;  // looked for in the normalized text
  bool special = false;     // left out of decoded text on request
};

// A piece of a text: an added token (id >= 0) or what lies between two (id < 0).
struct TextPart {
  Span span;
  int32_t id;
};

// Finds the tokens of one set, leftmost first and of those the longest, not overlapping, as the tokenizers
// package's Aho-Corasick automaton does; here a byte trie walked from each position where a token can begin,
// which costs at most kMaxContentBytes steps for each byte of the text.
class AddedTokenFinder {
 public:
  static constexpr size_t kMaxContentBytes = 1024;

  // kInvalidData where two tokens have the same content, or one is empty or longer than kMaxContentBytes.
  [[nodiscard]] static Result<AddedTokenFinder> build(std::vector<AddedToken> tokens);

  // Appends the parts of `text` (well-formed UTF-8) to `parts`, in order. They cover the text, with one
  // exception that follows the package: after a token that took the white space on its right, a token found
  // in that white space is reported too.
  void find(std::string_view text, std::vector<TextPart>& parts) const;

 private:
  struct Edge {
    uint8_t byte;
    int32_t node;
  };
  struct Node {
    std::vector<Edge> edges;  // by byte, ascending
    int32_t token = -1;       // the index of the token that ends here
  };
  struct Match {
    Span span;
    int32_t token;
  };

  AddedTokenFinder() = default;
  [[nodiscard]] int32_t child(int32_t node, uint8_t byte) const;
  [[nodiscard]] int32_t add_child(int32_t node, uint8_t byte);
  // The longest token that begins at text[begin]; token -1 where none does.
  [[nodiscard]] Match longest_at(std::string_view text, size_t begin) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_{1};
  std::array<bool, 256> can_begin_{};
};

}  // namespace nemoforge::text
