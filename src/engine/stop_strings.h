// Strings that end a completion, found in text that comes in pieces.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemoforge::engine {

// Knuth-Morris-Pratt over each string, so that a byte costs amortised constant time a string. What is found
// does not depend on how the text is cut into pieces.
class StopStrings {
 public:
  // The strings are well-formed UTF-8 and not empty.
  explicit StopStrings(const std::vector<std::string>& strings);

  struct Match {
    size_t stop_idx;  // which string
  };

  // Appends to `out` the part of the text so far that can no longer belong to a stop string. At a match (the
  // one that ends first; of several that end there, the longest) nothing from its first byte on is appended,
  // unless `include_match`, then its bytes are; text after it is dropped. Not to be called after a match.
  [[nodiscard]] std::optional<Match> push(std::string_view text, bool include_match, std::string& out);

  // What is held back: the beginning of a stop string that does not come any more.
  [[nodiscard]] std::string finish();

 private:
  struct Pattern {
    std::string text;
    std::vector<size_t> failure;  // for each prefix, the length of its longest proper suffix that is a prefix
    size_t matched = 0;           // bytes of `text` that the pushed text ends with
  };
  std::vector<Pattern> patterns_;
  std::string held_back_;
};

}  // namespace nemoforge::engine
