// What is kept of prompts for prompts that begin alike: blocks of keys and values, and Mamba states.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cache/block_allocator.h"
#include "cache/slot_allocator.h"

namespace nemoforge::model {
class LoraAdapter;
}

namespace nemoforge::engine {

// A tree of full blocks of prompt tokens, compared token by token. A sequence can begin behind a block only
// where the state of the Mamba layers is known there too: such snapshots are few, since each is as large as a
// sequence's whole state. They are taken where prompts are seen to part and at the ends of prompts, at
// multiples of `alignment` (of the block size and of the scan's chunk size), where a prompt computed from the
// snapshot has the same bits as one computed from its beginning.
//
// Only what prefill kernels computed is kept. Blocks that no sequence holds stay until the space is needed;
// the least recently used go first, the ends of prompts before their beginnings. Not thread-safe.
class PrefixCache {
 public:
  using Adapter = std::shared_ptr<const model::LoraAdapter>;

  // The allocators outlive the cache.
  PrefixCache(int64_t block_size, int64_t alignment, cache::BlockAllocator& blocks,
              cache::SlotAllocator& slots);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  struct Match {
    int64_t num_tokens = 0;       // from the beginning to the snapshot; 0: no hit
    std::vector<int32_t> blocks;  // of those tokens, a reference each for the caller
    int32_t snapshot_slot = -1;   // to copy from before anything else is asked of the cache
    // Where a snapshot would be of use, ascending, after num_tokens: where this prompt parts from those
    // before it, and at its end.
    std::vector<int64_t> wanted_snapshots;
  };
  // The longest beginning of `prompt`, short of its last token, that a sequence can go on from.
  [[nodiscard]] Match match(std::span<const int32_t> prompt, const Adapter& adapter);

  // Keeps the full blocks of `tokens`, which a sequence holds in `blocks` and which are computed.
  void insert(std::span<const int32_t> tokens, const Adapter& adapter, std::span<const int32_t> blocks);
  // A slot for the state after `tokens`, which were inserted, to be copied to; nothing where the state is
  // there already or no slot can be had. At most `max_snapshots` are kept.
  [[nodiscard]] std::optional<int32_t> add_snapshot(std::span<const int32_t> tokens, const Adapter& adapter,
                                                    int64_t max_snapshots);

  // To be called after a reference to `block` was given back.
  void note_release(int32_t block);
  // Gives the least recently used idle block back to the allocator, and what depends on it; false where every
  // kept block is held by a sequence.
  bool evict_block();
  // The same with the least recently used snapshot.
  bool evict_snapshot();

  // Kept blocks that no sequence holds: evict_block() can free them.
  [[nodiscard]] int64_t num_idle_blocks() const { return static_cast<int64_t>(idle_.size()); }
  [[nodiscard]] int64_t num_snapshots() const { return static_cast<int64_t>(snapshots_.size()); }

 private:
  struct Node;
  using Children = std::multimap<uint64_t, std::unique_ptr<Node>>;  // by a hash of the block's tokens

  [[nodiscard]] Node* find_child(Children& children, std::span<const int32_t> tokens) const;
  [[nodiscard]] Node* find(std::span<const int32_t> tokens, const Adapter& adapter);
  void make_busy(Node& node);
  void drop_snapshot(Node& node);
  void drop(Node& node);

  const int64_t block_size_;
  const int64_t alignment_;
  cache::BlockAllocator& blocks_;
  cache::SlotAllocator& slots_;
  // By the identity of the adapter, which an address alone is not once the adapter is gone.
  std::map<std::weak_ptr<const model::LoraAdapter>, Children, std::owner_less<>> roots_;
  std::vector<Node*> node_of_block_;
  std::list<Node*> idle_;       // least recently used first
  std::list<Node*> snapshots_;  // likewise
};

}  // namespace nemoforge::engine
