// A vocabulary's tokens by their bytes, so that what a grammar allows is found for all tokens in one walk.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace nemoforge::grammar {

class TokenTrie {
 public:
  // `token_bytes`: of each token id; empty for tokens that a grammar never allows (special ones, unused ids).
  // `eos_token_ids`: allowed where the grammar may end.
  TokenTrie(const std::vector<std::string_view>& token_bytes, std::vector<int32_t> eos_token_ids);

  // In depth-first order: a node's children follow it, up to `end`.
  struct Node {
    uint8_t byte;
    int32_t depth;  // bytes before this one
    int32_t end;
    int32_t first_token;  // in tokens(): those that end here
    int32_t last_token;
  };
  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }
  [[nodiscard]] const std::vector<int32_t>& tokens() const { return tokens_; }
  [[nodiscard]] const std::vector<int32_t>& eos_token_ids() const { return eos_token_ids_; }
  // One bit a token, as Matcher::mask.
  [[nodiscard]] const std::vector<uint32_t>& all_but_eos() const { return all_but_eos_; }
  [[nodiscard]] bool is_eos(int32_t token_id) const;
  [[nodiscard]] int32_t vocab_size() const { return static_cast<int32_t>(offsets_.size()) - 1; }
  [[nodiscard]] std::string_view bytes(int32_t token_id) const;
  [[nodiscard]] int32_t max_depth() const { return max_depth_; }

 private:
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> eos_token_ids_;
  std::vector<uint32_t> all_but_eos_;
  std::vector<size_t> offsets_;
  std::vector<char> bytes_;
  int32_t max_depth_ = 0;
};

}  // namespace nemoforge::grammar
