// The memory that a candidate's process shares with the judge: inputs between guard zones, and the place
// where outputs are delivered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace nemoforge::verify {

class Arena {
 public:
  Arena() = default;
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  // An empty anonymous file, so that a child can inherit its descriptor before the size is known.
  [[nodiscard]] static Result<Arena> create();
  // Gives it its final size (sealed) and maps it.
  [[nodiscard]] Status set_size(int64_t bytes);

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(bytes_.size()); }
  [[nodiscard]] std::span<std::byte> at(int64_t offset, int64_t size) const;

 private:
  int fd_ = -1;
  std::span<std::byte> bytes_;
};

// One tensor of a slot.
struct ArenaTensor {
  int64_t offset = 0;
  int64_t size = 0;
};

// Where the inputs of one slot lie: each tensor on a 4096-byte boundary with a guard zone of 0xFF before it
// and one that follows its last byte.
class InputSlot {
 public:
  InputSlot(int64_t offset, const std::vector<int64_t>& tensor_bytes);

  [[nodiscard]] int64_t end() const { return end_; }
  [[nodiscard]] const std::vector<ArenaTensor>& tensors() const { return tensors_; }

  // Writes the tensors' bytes, which follow each other in `blob`, and the guard zones.
  void fill(const Arena& arena, std::string_view blob) const;
  // Whether the tensors still hold `blob`.
  [[nodiscard]] bool inputs_intact(const Arena& arena, std::string_view blob) const;
  [[nodiscard]] bool guards_intact(const Arena& arena) const;

 private:
  int64_t begin_ = 0;
  int64_t end_ = 0;
  std::vector<ArenaTensor> tensors_;
};

}  // namespace nemoforge::verify
