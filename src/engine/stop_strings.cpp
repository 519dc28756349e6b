#include "engine/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace nemoforge::engine {
namespace {

std::vector<size_t> failure_function(std::string_view text) {
  std::vector<size_t> failure(text.size() + 1, 0);
  size_t length = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    while (length > 0 && text[i] != text[length]) length = failure[length];
    if (text[i] == text[length]) ++length;
    failure[i + 1] = length;
  }
  return failure;
}

}  // namespace

StopStrings::StopStrings(const std::vector<std::string>& strings) {
  for (const std::string& text : strings) {
    NF_CHECK(!text.empty());
    patterns_.push_back({text, failure_function(text), 0});
  }
}

std::optional<StopStrings::Match> StopStrings::push(std::string_view text, bool include_match,
                                                    std::string& out) {
  if (patterns_.empty()) {
    out += text;
    return std::nullopt;
  }
  for (const char byte : text) {
    held_back_ += byte;
    size_t longest_prefix = 0;
    std::optional<size_t> found;
    for (size_t i = 0; i < patterns_.size(); ++i) {
      Pattern& pattern = patterns_[i];
      while (pattern.matched > 0 && pattern.text[pattern.matched] != byte) {
        pattern.matched = pattern.failure[pattern.matched];
      }
      if (pattern.text[pattern.matched] == byte) ++pattern.matched;
      longest_prefix = std::max(longest_prefix, pattern.matched);
      const bool complete = pattern.matched == pattern.text.size();
      if (complete && (!found || pattern.text.size() > patterns_[*found].text.size())) found = i;
    }
    if (found) {
      const size_t match_bytes = include_match ? 0 : patterns_[*found].text.size();
      out.append(held_back_, 0, held_back_.size() - match_bytes);
      held_back_.clear();
      return Match{*found};
    }
    const size_t safe_bytes = held_back_.size() - longest_prefix;
    out.append(held_back_, 0, safe_bytes);
    held_back_.erase(0, safe_bytes);
  }
  return std::nullopt;
}

std::string StopStrings::finish() {
  for (Pattern& pattern : patterns_) pattern.matched = 0;
  return std::exchange(held_back_, {});
}

}  // namespace nemoforge::engine
