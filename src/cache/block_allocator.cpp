#include "cache/block_allocator.h"

#include "base/check.h"
#include "base/integers.h"

namespace nemoforge::cache {

BlockAllocator::BlockAllocator(int64_t num_blocks) {
  NF_CHECK(num_blocks >= 0) << num_blocks;
  reference_counts_.resize(static_cast<size_t>(num_blocks), 0);
  free_.reserve(static_cast<size_t>(num_blocks));
  for (int64_t block = num_blocks - 1; block >= 0; --block) free_.push_back(narrow<int32_t>(block));
}

std::optional<int32_t> BlockAllocator::allocate() {
  if (free_.empty()) return std::nullopt;
  const int32_t block = free_.back();
  free_.pop_back();
  reference_counts_[static_cast<size_t>(block)] = 1;
  return block;
}

bool BlockAllocator::allocate(int64_t count, std::vector<int32_t>& blocks) {
  NF_CHECK(count >= 0) << count;
  if (count > num_free()) return false;
  for (int64_t i = 0; i < count; ++i) blocks.push_back(*allocate());
  return true;
}

void BlockAllocator::share(int32_t block) {
  NF_CHECK(count_of(block) > 0) << "block " << block << " is free";
  ++count_of(block);
}

void BlockAllocator::release(int32_t block) {
  NF_CHECK(count_of(block) > 0) << "block " << block << " is free";
  if (--count_of(block) == 0) free_.push_back(block);
}

void BlockAllocator::release(std::span<const int32_t> blocks) {
  for (const int32_t block : blocks) release(block);
}

int32_t BlockAllocator::reference_count(int32_t block) const {
  return const_cast<BlockAllocator*>(this)->count_of(block);
}

int32_t& BlockAllocator::count_of(int32_t block) {
  NF_CHECK(block >= 0 && block < num_blocks()) << block << " of " << num_blocks();
  return reference_counts_[static_cast<size_t>(block)];
}

int64_t blocks_for_tokens(int64_t num_tokens, int64_t block_size) {
  return ceil_div(num_tokens, block_size);
}

}  // namespace nemoforge::cache
