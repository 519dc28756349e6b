#include "engine/prefix_cache.h"

#include <algorithm>

#include "base/check.h"

namespace nemoforge::engine {
namespace {

// FNV-1a; equal hashes are told apart by the tokens themselves.
uint64_t hash_tokens(std::span<const int32_t> tokens) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const int32_t token : tokens) hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001b3;
  return hash;
}

}  // namespace

struct PrefixCache::Node {
  Children* siblings = nullptr;  // the map that owns this node
  uint64_t hash = 0;
  std::vector<int32_t> tokens;
  int32_t block = -1;
  int32_t snapshot_slot = -1;
  std::optional<std::list<Node*>::iterator> idle_at;
  std::list<Node*>::iterator snapshot_at;
  Children children;
};

PrefixCache::PrefixCache(int64_t block_size, int64_t alignment, cache::BlockAllocator& blocks,
                         cache::SlotAllocator& slots)
    : block_size_(block_size),
      alignment_(alignment),
      blocks_(blocks),
      slots_(slots),
      node_of_block_(static_cast<size_t>(blocks.num_blocks()), nullptr) {
  NF_CHECK(alignment % block_size == 0) << alignment << " and " << block_size;
}

PrefixCache::~PrefixCache() {
  for (auto& [adapter, children] : roots_) {
    while (!children.empty()) drop(*children.begin()->second);
  }
}

PrefixCache::Node* PrefixCache::find_child(Children& children, std::span<const int32_t> tokens) const {
  const auto [begin, end] = children.equal_range(hash_tokens(tokens));
  for (auto it = begin; it != end; ++it) {
    if (std::equal(tokens.begin(), tokens.end(), it->second->tokens.begin(), it->second->tokens.end())) {
      return it->second.get();
    }
  }
  return nullptr;
}

// The node of the last block of `tokens`, whose number is a multiple of the block size.
PrefixCache::Node* PrefixCache::find(std::span<const int32_t> tokens, const Adapter& adapter) {
  Children* children = &roots_[adapter];
  Node* node = nullptr;
  const auto block_size = static_cast<size_t>(block_size_);
  for (size_t begin = 0; begin < tokens.size(); begin += block_size) {
    node = find_child(*children, tokens.subspan(begin, block_size));
    if (node == nullptr) return nullptr;
    children = &node->children;
  }
  return node;
}

PrefixCache::Match PrefixCache::match(std::span<const int32_t> prompt, const Adapter& adapter) {
  // Short of the last token, whose logits are needed.
  const int64_t limit = static_cast<int64_t>(prompt.size()) - 1;
  const auto block_size = static_cast<size_t>(block_size_);
  Match match;
  std::vector<Node*> path;
  Children* children = &roots_[adapter];
  for (int64_t end = block_size_; end <= limit; end += block_size_) {
    Node* node = find_child(*children, prompt.subspan(static_cast<size_t>(end) - block_size, block_size));
    if (node == nullptr) break;
    path.push_back(node);
    if (node->snapshot_slot >= 0) match.num_tokens = end;
    children = &node->children;
  }
  const auto num_blocks = static_cast<size_t>(match.num_tokens / block_size_);
  for (size_t i = 0; i < num_blocks; ++i) {
    blocks_.share(path[i]->block);
    make_busy(*path[i]);
    match.blocks.push_back(path[i]->block);
  }
  if (num_blocks > 0) {
    Node& last = *path[num_blocks - 1];
    match.snapshot_slot = last.snapshot_slot;
    snapshots_.splice(snapshots_.end(), snapshots_, last.snapshot_at);
  }
  const int64_t parting = static_cast<int64_t>(path.size()) * block_size_ / alignment_ * alignment_;
  const int64_t end_of_prompt = limit / alignment_ * alignment_;
  if (parting > match.num_tokens) match.wanted_snapshots.push_back(parting);
  if (end_of_prompt > std::max(parting, match.num_tokens)) match.wanted_snapshots.push_back(end_of_prompt);
  return match;
}

void PrefixCache::insert(std::span<const int32_t> tokens, const Adapter& adapter,
                         std::span<const int32_t> blocks) {
  Children* children = &roots_[adapter];
  const auto block_size = static_cast<size_t>(block_size_);
  for (size_t i = 0; (i + 1) * block_size <= tokens.size(); ++i) {
    const auto block_tokens = tokens.subspan(i * block_size, block_size);
    Node* node = find_child(*children, block_tokens);
    if (node == nullptr) {
      const uint64_t hash = hash_tokens(block_tokens);
      node = children->emplace(hash, std::make_unique<Node>())->second.get();
      node->siblings = children;
      node->hash = hash;
      node->tokens.assign(block_tokens.begin(), block_tokens.end());
      node->block = blocks[i];
      blocks_.share(node->block);
      node_of_block_[static_cast<size_t>(node->block)] = node;
    }
    children = &node->children;
  }
}

std::optional<int32_t> PrefixCache::add_snapshot(std::span<const int32_t> tokens, const Adapter& adapter,
                                                 int64_t max_snapshots) {
  Node* node = find(tokens, adapter);
  if (node == nullptr || node->snapshot_slot >= 0 || max_snapshots <= 0) return std::nullopt;
  while (num_snapshots() >= max_snapshots) (void)evict_snapshot();
  const auto slot = slots_.allocate();
  if (!slot) return std::nullopt;
  node->snapshot_slot = *slot;
  node->snapshot_at = snapshots_.insert(snapshots_.end(), node);
  return slot;
}

void PrefixCache::note_release(int32_t block) {
  Node* node = node_of_block_[static_cast<size_t>(block)];
  if (node == nullptr || node->idle_at || blocks_.reference_count(block) != 1) return;
  node->idle_at = idle_.insert(idle_.end(), node);
}

bool PrefixCache::evict_block() {
  if (idle_.empty()) return false;
  drop(*idle_.front());
  return true;
}

bool PrefixCache::evict_snapshot() {
  if (snapshots_.empty()) return false;
  drop_snapshot(*snapshots_.front());
  return true;
}

void PrefixCache::make_busy(Node& node) {
  if (!node.idle_at) return;
  idle_.erase(*node.idle_at);
  node.idle_at.reset();
}

void PrefixCache::drop_snapshot(Node& node) {
  if (node.snapshot_slot < 0) return;
  slots_.release(node.snapshot_slot);
  node.snapshot_slot = -1;
  snapshots_.erase(node.snapshot_at);
}

// Takes a node and all below it out of the tree. Blocks that a sequence holds are the sequence's alone from
// now on. Without recursion: a prompt of a million tokens is a branch of many thousand nodes.
void PrefixCache::drop(Node& node) {
  const auto [begin, end] = node.siblings->equal_range(node.hash);
  const auto it = std::find_if(begin, end, [&](const auto& entry) { return entry.second.get() == &node; });
  NF_CHECK(it != end);
  std::vector<std::unique_ptr<Node>> dropped;
  dropped.push_back(std::move(it->second));
  node.siblings->erase(it);
  while (!dropped.empty()) {
    const std::unique_ptr<Node> next = std::move(dropped.back());
    dropped.pop_back();
    make_busy(*next);
    drop_snapshot(*next);
    node_of_block_[static_cast<size_t>(next->block)] = nullptr;
    blocks_.release(next->block);
    for (auto& [hash, child] : next->children) dropped.push_back(std::move(child));
  }
}

}  // namespace nemoforge::engine
