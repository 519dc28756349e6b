#include "grammar/token_trie.h"

#include <algorithm>
#include <utility>

namespace nemoforge::grammar {

TokenTrie::TokenTrie(const std::vector<std::string_view>& token_bytes, std::vector<int32_t> eos_token_ids)
    : eos_token_ids_(std::move(eos_token_ids)) {
  std::vector<int32_t> order;
  offsets_.push_back(0);
  for (size_t id = 0; id < token_bytes.size(); ++id) {
    bytes_.insert(bytes_.end(), token_bytes[id].begin(), token_bytes[id].end());
    offsets_.push_back(bytes_.size());
    if (!token_bytes[id].empty() && !is_eos(static_cast<int32_t>(id)))
      order.push_back(static_cast<int32_t>(id));
  }
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return bytes(a) < bytes(b); });
  std::vector<size_t> path;  // the nodes of the token before
  std::string_view previous;
  const auto close = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back())
      nodes_[path.back()].end = static_cast<int32_t>(nodes_.size());
  };
  for (const int32_t id : order) {
    const std::string_view text = bytes(id);
    const auto differ = std::mismatch(text.begin(), text.end(), previous.begin(), previous.end());
    close(static_cast<size_t>(differ.first - text.begin()));
    while (path.size() < text.size()) {
      const auto depth = static_cast<int32_t>(path.size());
      const auto token = static_cast<int32_t>(tokens_.size());
      path.push_back(nodes_.size());
      nodes_.push_back({static_cast<uint8_t>(text[static_cast<size_t>(depth)]), depth, 0, token, token});
    }
    tokens_.push_back(id);
    nodes_[path.back()].last_token = static_cast<int32_t>(tokens_.size());
    max_depth_ = std::max(max_depth_, static_cast<int32_t>(text.size()));
    previous = text;
  }
  close(0);
  all_but_eos_.assign((token_bytes.size() + 31) / 32, ~0U);
  for (const int32_t id : eos_token_ids_) {
    if (id >= 0 && id < vocab_size()) all_but_eos_[static_cast<size_t>(id) / 32] &= ~(1U << (id % 32));
  }
}

bool TokenTrie::is_eos(int32_t token_id) const {
  return std::find(eos_token_ids_.begin(), eos_token_ids_.end(), token_id) != eos_token_ids_.end();
}

std::string_view TokenTrie::bytes(int32_t token_id) const {
  const auto id = static_cast<size_t>(token_id);
  return {bytes_.data() + offsets_[id], offsets_[id + 1] - offsets_[id]};
}

}  // namespace nemoforge::grammar
