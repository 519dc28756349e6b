// Byte pair encoding of one word.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/merge_queue.h"

namespace nemoforge::text {

// "left followed by right becomes merged"; the rank is the place in the list.
struct Merge {
  int32_t left;
  int32_t right;
  int32_t merged;
};

class Bpe {
 public:
  // `byte_ids`: the token of each byte; those of bytes that UTF-8 never has may be missing (negative).
  // `merges` in ascending rank; of equal pairs the last counts, as in the tokenizers package.
  // `whole_words`: the bytes and ids of tokens that a word may be as a whole, whatever the merges say
  // ("ignore_merges"); empty where that option is off.
  Bpe(const std::array<int32_t, 256>& byte_ids, const std::vector<Merge>& merges,
      std::vector<std::pair<std::string, int32_t>> whole_words);
  ~Bpe();
  Bpe(Bpe&&) noexcept;
  Bpe& operator=(Bpe&&) noexcept;

  // Buffers that one caller reuses from word to word; not shared between threads.
  struct Scratch {
    struct Symbol {
      int32_t id;  // negative: merged into the symbol on its left
      int32_t previous;
      int32_t next;
    };
    std::vector<Symbol> symbols;
    HeapMergeQueue heap;
    RankedMergeQueue ranked;
  };

  // Appends the ids of `word` (well-formed UTF-8) to `ids`. O(n log n) in its length, which must be under 2
  // GiB. Short words are remembered in a bounded cache of the calling thread.
  void encode_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

 private:
  struct Tables;

  void merge_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;
  // Merges the pairs of `symbols`, which are those of one word; `queue` is empty before and after.
  template <typename Queue>
  void merge_symbols(std::vector<Scratch::Symbol>& symbols, Queue& queue) const;

  std::unique_ptr<const Tables> tables_;
};

}  // namespace nemoforge::text
