#include "grammar/matcher.h"

#include <algorithm>
#include <utility>

#include "base/integers.h"

namespace nemoforge::grammar {
namespace {

constexpr int32_t kUnknown = -1;
constexpr size_t kMaxFramesOfState = 4096;
constexpr size_t kMaxPlacesOfStep = 4 * kMaxFramesOfState;

uint64_t frame_key(int32_t node, int32_t parent) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(node)) << 32) | static_cast<uint32_t>(parent);
}

}  // namespace

Matcher::Matcher(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie)
    : grammar_(std::move(grammar)), trie_(std::move(trie)) {
  frames_.push_back({-1, 0, 0});
  (void)state_of({});
  std::vector<int32_t> frames;
  Places seen;
  close(grammar_->start(), 0, seen, frames);
  state_ = state_of(std::move(frames));
}

// Forgets all but the state that the matcher is in.
void Matcher::restart() {
  const std::vector<Frame> old = std::exchange(frames_, {{-1, 0, 0}});
  const std::vector<int32_t> current = states_[static_cast<size_t>(state_)].frames;
  frame_ids_.clear();
  states_.clear();
  state_ids_.clear();
  masks_.clear();
  num_frames_of_states_ = 0;
  (void)state_of({});
  std::vector<int32_t> frames;
  for (const int32_t frame : current) {
    std::vector<int32_t> chain;
    for (int32_t at = frame; at != 0; at = old[static_cast<size_t>(at)].parent) chain.push_back(at);
    int32_t id = 0;
    for (size_t i = chain.size(); i-- > 0;) id = frame_of(old[static_cast<size_t>(chain[i])].node, id);
    frames.push_back(id);
  }
  std::sort(frames.begin(), frames.end());
  state_ = state_of(std::move(frames));
}

int32_t Matcher::frame_of(int32_t node, int32_t parent) {
  const auto [found, is_new] =
      frame_ids_.try_emplace(frame_key(node, parent), static_cast<int32_t>(frames_.size()));
  if (is_new) frames_.push_back({node, parent, frames_[static_cast<size_t>(parent)].depth + 1});
  return found->second;
}

// Adds the places that are reached from `node` without reading a byte.
void Matcher::close(int32_t node, int32_t parent, Places& seen, std::vector<int32_t>& frames) {
  std::vector<std::pair<int32_t, int32_t>> todo = {{node, parent}};
  while (!todo.empty()) {
    const auto at = todo.back();
    todo.pop_back();
    if (!seen.insert(at).second) continue;
    if (seen.size() > kMaxPlacesOfStep || ++num_places_ > kMaxPlacesOfToken) {
      overflow_ = true;
      return;
    }
    const Node& place = grammar_->node(at.first);
    switch (place.kind) {
      case Node::Kind::kBytes:
        frames.push_back(frame_of(at.first, at.second));
        break;
      case Node::Kind::kSplit:
        todo.emplace_back(place.next, at.second);
        todo.emplace_back(place.other, at.second);
        break;
      case Node::Kind::kCall:
        // The last call of a rule returns to where the rule does, so that lists do not nest.
        if (grammar_->node(place.next).kind == Node::Kind::kReturn) {
          todo.emplace_back(place.other, at.second);
        } else if (frames_[static_cast<size_t>(at.second)].depth < kMaxDepth) {
          todo.emplace_back(place.other, frame_of(place.next, at.second));
        }
        break;
      case Node::Kind::kReturn:
        if (at.second == 0) {
          frames.push_back(0);
        } else {
          const Frame& frame = frames_[static_cast<size_t>(at.second)];
          todo.emplace_back(frame.node, frame.parent);
        }
        break;
      case Node::Kind::kFail:
        break;
    }
  }
}

Matcher::State Matcher::state_of(std::vector<int32_t> frames) {
  std::sort(frames.begin(), frames.end());
  frames.erase(std::unique(frames.begin(), frames.end()), frames.end());
  const auto [found, is_new] = state_ids_.try_emplace(frames, static_cast<State>(states_.size()));
  if (is_new) {
    num_frames_of_states_ += frames.size();
    states_.push_back({std::move(frames), {}});
    states_.back().next.fill(kUnknown);
  }
  return found->second;
}

Matcher::State Matcher::step(State state, uint8_t byte) {
  const State known = states_[static_cast<size_t>(state)].next[byte];
  if (known != kUnknown) return known;
  std::vector<int32_t> frames;
  Places seen;
  for (const int32_t id : states_[static_cast<size_t>(state)].frames) {
    if (id == 0) continue;
    const Frame frame = frames_[static_cast<size_t>(id)];
    const Node& place = grammar_->node(frame.node);
    if (byte >= place.first && byte <= place.last) close(place.next, frame.parent, seen, frames);
    if (overflow_) return 0;
  }
  if (states_.size() >= kMaxStates || frames.size() > kMaxFramesOfState ||
      num_stored_frames() > kMaxStoredFrames) {
    overflow_ = true;
    return 0;
  }
  const State next = state_of(std::move(frames));
  states_[static_cast<size_t>(state)].next[byte] = next;
  return next;
}

bool Matcher::is_accepting(State state) const {
  const auto& frames = states_[static_cast<size_t>(state)].frames;
  return !frames.empty() && frames.front() == 0;
}

bool Matcher::is_accepting() const {
  return is_accepting(state_);
}

Result<std::span<const uint32_t>> Matcher::mask() {
  if (const auto known = masks_.find(state_); known != masks_.end())
    return std::span<const uint32_t>(known->second);
  if (states_.size() > kMaxStates / 2 || num_stored_frames() > kMaxStoredFrames / 2 ||
      masks_.size() >= kMaxMasks)
    restart();
  std::vector<uint32_t> bits(static_cast<size_t>(ceil_div(trie_->vocab_size(), 32)), 0U);
  const auto allow = [&](int32_t id) {
    if (id >= 0 && id < trie_->vocab_size()) bits[static_cast<size_t>(id) / 32] |= 1U << (id % 32);
  };
  num_places_ = 0;
  path_.assign(static_cast<size_t>(trie_->max_depth()) + 1, 0);
  path_[0] = state_;
  const auto& nodes = trie_->nodes();
  for (size_t i = 0; i < nodes.size() && !overflow_;) {
    const TokenTrie::Node& node = nodes[i];
    const State next = step(path_[static_cast<size_t>(node.depth)], node.byte);
    if (next == 0) {
      i = static_cast<size_t>(node.end);
      continue;
    }
    path_[static_cast<size_t>(node.depth) + 1] = next;
    for (int32_t token = node.first_token; token < node.last_token; ++token) {
      allow(trie_->tokens()[static_cast<size_t>(token)]);
    }
    ++i;
  }
  if (overflow_) {
    return error(ErrorCode::kUnsupported,
                 "the grammar is too ambiguous: too many of its places are possible at once",
                 "write it with fewer ways to match the same text");
  }
  if (is_accepting(state_)) {
    for (const int32_t id : trie_->eos_token_ids()) allow(id);
  }
  return std::span<const uint32_t>(masks_.insert_or_assign(state_, std::move(bits)).first->second);
}

Status Matcher::accept(int32_t token_id) {
  const auto refuse = [&] {
    return error(ErrorCode::kInvalidArgument,
                 "the grammar does not allow token " + std::to_string(token_id) + " here");
  };
  if (token_id < 0 || token_id >= trie_->vocab_size()) return refuse();
  if (trie_->is_eos(token_id)) {
    if (!is_accepting(state_)) return refuse();
    return {};
  }
  num_places_ = 0;
  State state = state_;
  for (const char byte : trie_->bytes(token_id)) state = step(state, static_cast<uint8_t>(byte));
  if (state == 0 || trie_->bytes(token_id).empty()) return refuse();
  state_ = state;
  return {};
}

}  // namespace nemoforge::grammar
