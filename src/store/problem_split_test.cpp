#include "store/problem_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/temporary_folder.h"
#include "io/file.h"

namespace nemoforge::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class ProblemSplitTest : public ::testing::Test {
 protected:
  TemporaryFolder folder_ = TemporaryFolder::create().value();
  std::string dir_ = folder_.path();
};

TEST_F(ProblemSplitTest, records_grow_and_no_problem_changes_sides) {
  EXPECT_TRUE(read_problem_splits(dir_)->empty());
  ASSERT_TRUE(record_problem_splits(dir_, {{"a", Split::kTrain}, {"b", Split::kHeldOut}}));
  ASSERT_TRUE(record_problem_splits(dir_, {{"b", Split::kHeldOut}, {"c", Split::kTrain}}));
  const Status changed = record_problem_splits(dir_, {{"d", Split::kTrain}, {"b", Split::kTrain}});
  ASSERT_FALSE(changed.has_value());
  EXPECT_EQ(changed.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(changed.error().message, HasSubstr("problem b is held_out"));
  EXPECT_THAT(*read_problem_splits(dir_),
              ElementsAre(Pair("a", Split::kTrain), Pair("b", Split::kHeldOut), Pair("c", Split::kTrain)));
}

TEST_F(ProblemSplitTest, refuses_a_damaged_record) {
  for (const char* text : {"[]", R"({"train":[]})", R"({"train":["a"],"held_out":["a"]})",
                           R"({"train":[1],"held_out":[]})", "{"}) {
    ASSERT_TRUE(io::write_file_atomically(dir_ + "/splits.json", text));
    const auto splits = read_problem_splits(dir_);
    ASSERT_FALSE(splits.has_value()) << text;
    EXPECT_EQ(splits.error().code, ErrorCode::kInvalidData);
    EXPECT_THAT(splits.error().message, HasSubstr("splits.json"));
  }
}

}  // namespace
}  // namespace nemoforge::store
