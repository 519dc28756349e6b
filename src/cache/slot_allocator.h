// The slots of the Mamba and convolution states: one for every sequence that has begun. Bookkeeping only; the
// memory belongs to the model's caches.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace nemoforge::cache {

// A fixed number of slots, each held by one owner (a running sequence, or a kept snapshot of a prefix). Freed
// slots are given out again last-in, first-out. Not thread-safe.
class SlotAllocator {
 public:
  explicit SlotAllocator(int64_t num_slots);

  [[nodiscard]] int64_t num_slots() const { return static_cast<int64_t>(held_.size()); }
  [[nodiscard]] int64_t num_free() const { return static_cast<int64_t>(free_.size()); }

  // A slot of unspecified contents (a sequence that begins at position 0 does not read it); nothing where
  // none is free.
  [[nodiscard]] std::optional<int32_t> allocate();
  void release(int32_t slot);

 private:
  std::vector<bool> held_;
  std::vector<int32_t> free_;
};

}  // namespace nemoforge::cache
