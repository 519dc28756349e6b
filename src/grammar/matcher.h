// Follows one completion through a grammar, and says which tokens may come next.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "grammar/grammar.h"
#include "grammar/token_trie.h"

namespace nemoforge::grammar {

// A pushdown automaton run on all its alternatives at once. A state is the set of places where the grammar
// may be: each a byte of the graph and the places to return to, shared with the other states. States, their
// transitions and masks are kept, so that a state that comes again costs a look-up.
//
// Of one sequence, and of one thread at a time. Bounds: rules nest kMaxDepth deep (what goes deeper is not
// allowed); kMaxStates states, kMaxStoredFrames places in them and kMaxMasks masks are kept; for one token
// kMaxPlacesOfToken places are looked at.
class Matcher {
 public:
  static constexpr int32_t kMaxDepth = 256;
  static constexpr size_t kMaxStates = 16'384;
  static constexpr size_t kMaxStoredFrames = 1'000'000;  // some 50 MB
  static constexpr size_t kMaxMasks = 64;
  static constexpr size_t kMaxPlacesOfToken = 4'000'000;  // a second

  Matcher(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie);

  // [ceil(vocab_size / 32)] one bit a token, the lowest bit of the first word is token 0: sampling's
  // token_mask. End-of-sequence tokens are allowed where the text so far is complete. Valid until the next
  // call. kUnsupported where the grammar is too ambiguous to follow.
  [[nodiscard]] Result<std::span<const uint32_t>> mask();

  // The same of a text before the one that follows the grammar: all tokens but those that end the sequence.
  [[nodiscard]] std::span<const uint32_t> mask_before() const { return trie_->all_but_eos(); }

  // Takes the next token. kInvalidArgument where the grammar does not allow it; then nothing has changed.
  [[nodiscard]] Status accept(int32_t token_id);

  // The text so far is complete (more may be allowed).
  [[nodiscard]] bool is_accepting() const;

 private:
  using State = int32_t;                                 // 0: nothing is possible
  using Places = std::set<std::pair<int32_t, int32_t>>;  // node and parent
  struct Frame {
    int32_t node;
    int32_t parent;  // frame that the rule returns to; 0: none
    int32_t depth;
  };
  struct StateData {
    std::vector<int32_t> frames;  // ascending; frame 0: the grammar may end here
    std::array<State, 256> next;
  };

  void restart();
  int32_t frame_of(int32_t node, int32_t parent);
  void close(int32_t node, int32_t parent, Places& seen, std::vector<int32_t>& frames);
  State state_of(std::vector<int32_t> frames);
  State step(State state, uint8_t byte);
  [[nodiscard]] bool is_accepting(State state) const;
  [[nodiscard]] size_t num_stored_frames() const { return frames_.size() + num_frames_of_states_; }

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const TokenTrie> trie_;
  std::vector<Frame> frames_;
  std::unordered_map<uint64_t, int32_t> frame_ids_;
  std::vector<StateData> states_;
  std::map<std::vector<int32_t>, State> state_ids_;
  std::unordered_map<State, std::vector<uint32_t>> masks_;
  std::vector<State> path_;
  State state_ = 0;
  size_t num_frames_of_states_ = 0;
  size_t num_places_ = 0;  // looked at for this token
  bool overflow_ = false;
};

}  // namespace nemoforge::grammar
