// Which tokens a sequence has seen: what the penalties are computed from.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>

namespace nemoforge::sampling {

// The distinct tokens of a prompt and its completion. The work of a penalty is proportional to their number,
// not to the vocabulary.
class TokenHistory {
 public:
  struct Entry {
    bool in_prompt = false;
    int32_t num_in_completion = 0;
  };

  void add_prompt(std::span<const int32_t> token_ids) {
    for (const int32_t id : token_ids) entries_[id].in_prompt = true;
  }
  void add_completion(int32_t token_id) { ++entries_[token_id].num_in_completion; }

  [[nodiscard]] const std::unordered_map<int32_t, Entry>& entries() const { return entries_; }

 private:
  std::unordered_map<int32_t, Entry> entries_;
};

}  // namespace nemoforge::sampling
