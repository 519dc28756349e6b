#include "verify/arena.h"

#include <gtest/gtest.h>

namespace nemoforge::verify {
namespace {

TEST(arena, notices_changed_inputs_and_guards) {
  auto arena = Arena::create();
  ASSERT_TRUE(arena.has_value()) << arena.error().to_string();
  const InputSlot slot(0, {10, 5000, 0});
  ASSERT_TRUE(arena->set_size(slot.end()).has_value());
  const std::string blob(5010, 'a');
  slot.fill(*arena, blob);
  EXPECT_TRUE(slot.inputs_intact(*arena, blob));
  EXPECT_TRUE(slot.guards_intact(*arena));
  const ArenaTensor second = slot.tensors()[1];
  for (const int64_t offset : {second.offset - 1, second.offset + second.size, slot.end() - 1}) {
    slot.fill(*arena, blob);
    arena->at(offset, 1)[0] = std::byte{0};
    EXPECT_FALSE(slot.guards_intact(*arena)) << offset;
    EXPECT_TRUE(slot.inputs_intact(*arena, blob)) << offset;
  }
  slot.fill(*arena, blob);
  arena->at(second.offset + second.size - 1, 1)[0] = std::byte{0};
  EXPECT_FALSE(slot.inputs_intact(*arena, blob));
  EXPECT_TRUE(slot.guards_intact(*arena));
}

TEST(arena, tensors_start_on_pages) {
  const InputSlot slot(5, {1, 1});
  for (const ArenaTensor& tensor : slot.tensors()) EXPECT_EQ(tensor.offset % 4096, 0);
}

}  // namespace
}  // namespace nemoforge::verify
