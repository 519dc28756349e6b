#include "dataset/min_hash.h"

#include <algorithm>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"

namespace nemoforge::dataset {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// `num_tokens` distinct tokens, those from `num_shared` on of this document alone.
std::vector<std::string> document(int num_tokens, int num_shared, int number) {
  std::vector<std::string> tokens;
  for (int i = 0; i < num_tokens; ++i) {
    tokens.push_back(i < num_shared ? std::to_string(i) : std::to_string(number) + "_" + std::to_string(i));
  }
  return tokens;
}

MinHash signature(const std::vector<std::string>& tokens, size_t shingle_len = 1) {
  return min_hash({tokens.begin(), tokens.end()}, shingle_len);
}

TEST(MinHash, estimates_the_jaccard_similarity) {
  for (const int num_shared : {0, 200, 500, 800, 950, 1000}) {
    const double exact = num_shared / (2000.0 - num_shared);
    const double estimate =
        similarity(signature(document(1000, num_shared, 1)), signature(document(1000, num_shared, 2)));
    EXPECT_NEAR(estimate, exact, 3 * 0.044) << num_shared;
  }
}

TEST(MinHash, sees_order_through_shingles) {
  std::vector<std::string> tokens = document(300, 300, 0);
  const MinHash forward = signature(tokens, 5);
  std::reverse(tokens.begin(), tokens.end());
  EXPECT_LT(similarity(forward, signature(tokens, 5)), 0.05);
  EXPECT_EQ(similarity(forward, forward), 1);
}

TEST(MinHash, short_and_empty_documents) {
  EXPECT_EQ(similarity(signature({}, 5), signature({}, 5)), 1);
  EXPECT_LT(similarity(signature({}, 5), signature({"a"}, 5)), 0.05);
  EXPECT_EQ(similarity(signature({"a", "b"}, 5), signature({"a", "b"}, 5)), 1);
  EXPECT_LT(similarity(signature({"a", "b"}, 5), signature({"a", "c"}, 5)), 0.05);
}

// A change here changes every published dataset.
TEST(MinHash, is_the_same_on_every_machine) {
  const MinHash known = signature({"import", "torch"}, 5);
  EXPECT_EQ(known[0], 2103389086U);
  EXPECT_EQ(known[127], 651786512U);
}

TEST(SimilarityIndex, finds_what_is_alike_and_little_else) {
  for (const double threshold : {0.7, 0.9}) {
    SimilarityIndex index(threshold);
    EXPECT_THAT(index.candidates(signature({"a"})), IsEmpty());
    const int num_shared = static_cast<int>(2000 * threshold / (1 + threshold)) + 1;
    for (int i = 0; i < 100; ++i) {
      std::vector<std::string> tokens = document(1000, num_shared, i);
      for (std::string& token : tokens) token += "of" + std::to_string(i / 2);  // pairs are alike
      index.add(signature(tokens));
      const auto found = index.candidates(signature(tokens));
      if (i % 2 == 1) {
        EXPECT_THAT(found, ElementsAre(i - 1, i));
      }
    }
  }
}

TEST(Words, are_split_at_white_space) {
  EXPECT_THAT(words(" a\tb,c\n\nd "), ElementsAre("a", "b,c", "d"));
  EXPECT_THAT(words(""), IsEmpty());
}

}  // namespace
}  // namespace nemoforge::dataset
