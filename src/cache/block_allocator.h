// The KV cache's blocks: who holds which. Bookkeeping only; the memory belongs to the model's caches.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace nemoforge::cache {

// A fixed number of blocks with reference counts, so that sequences with a common prefix hold the same
// blocks. Freed blocks are given out again last-in, first-out: their memory is the warmest. Not thread-safe.
class BlockAllocator {
 public:
  explicit BlockAllocator(int64_t num_blocks);

  [[nodiscard]] int64_t num_blocks() const { return static_cast<int64_t>(reference_counts_.size()); }
  [[nodiscard]] int64_t num_free() const { return static_cast<int64_t>(free_.size()); }

  // A block with one reference; nothing where none is free.
  [[nodiscard]] std::optional<int32_t> allocate();
  // `count` blocks appended to `blocks`, or none at all (false) where fewer are free.
  [[nodiscard]] bool allocate(int64_t count, std::vector<int32_t>& blocks);
  // One more holder of a block that somebody holds.
  void share(int32_t block);
  // One holder fewer; the last one frees the block.
  void release(int32_t block);
  void release(std::span<const int32_t> blocks);

  [[nodiscard]] int32_t reference_count(int32_t block) const;

 private:
  [[nodiscard]] int32_t& count_of(int32_t block);

  std::vector<int32_t> reference_counts_;
  std::vector<int32_t> free_;
};

// Blocks that hold `num_tokens` positions.
[[nodiscard]] int64_t blocks_for_tokens(int64_t num_tokens, int64_t block_size);

}  // namespace nemoforge::cache
