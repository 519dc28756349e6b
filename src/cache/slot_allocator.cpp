#include "cache/slot_allocator.h"

#include "base/check.h"
#include "base/integers.h"

namespace nemoforge::cache {

SlotAllocator::SlotAllocator(int64_t num_slots) {
  NF_CHECK(num_slots >= 0) << num_slots;
  held_.resize(static_cast<size_t>(num_slots), false);
  free_.reserve(static_cast<size_t>(num_slots));
  for (int64_t slot = num_slots - 1; slot >= 0; --slot) free_.push_back(narrow<int32_t>(slot));
}

std::optional<int32_t> SlotAllocator::allocate() {
  if (free_.empty()) return std::nullopt;
  const int32_t slot = free_.back();
  free_.pop_back();
  held_[static_cast<size_t>(slot)] = true;
  return slot;
}

void SlotAllocator::release(int32_t slot) {
  NF_CHECK(slot >= 0 && slot < num_slots()) << slot << " of " << num_slots();
  NF_CHECK(held_[static_cast<size_t>(slot)]) << "slot " << slot << " is free";
  held_[static_cast<size_t>(slot)] = false;
  free_.push_back(slot);
}

}  // namespace nemoforge::cache
