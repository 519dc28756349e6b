#include "train/event_file.h"

#include <gtest/gtest.h>

namespace nemoforge::train {
namespace {

TEST(EventFile, a_record_has_the_bytes_that_tensorflow_writes) {
  // tf.compat.v1.Event(wall_time=1.5, step=300, summary=Summary(value=[Value(tag="a", simple_value=0.5)])),
  // framed.
  const std::string event = std::string("\x09\0\0\0\0\0\0\xF8\x3F", 9) + std::string("\x10\xAC\x02", 3) +
                            std::string("\x2A\x0A\x0A\x08\x0A\x01\x61\x15\0\0\0\x3F", 12);
  const std::string record = scalar_event(1.5, 300, "a", 0.5F);
  ASSERT_EQ(record.size(), 12 + event.size() + 4);
  EXPECT_EQ(record.substr(0, 8), std::string("\x18\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(record.substr(12, event.size()), event);
}

}  // namespace
}  // namespace nemoforge::train
