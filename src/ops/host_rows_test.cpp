#include "ops/host_rows.h"

#include <vector>

#include <gtest/gtest.h>

#include "ops/op_checks.h"

namespace nemoforge::ops {
namespace {

// Two sequences, a decode row after 20 tokens and a prompt of 3 rows; 3 state slots, 4 KV blocks of 16.
class HostRows : public ::testing::Test {
 protected:
  void check_all() {
    const RaggedRows rows{.num_tokens = num_tokens,
                          .num_sequences = 2,
                          .num_decode = num_decode,
                          .max_query_len = 3,
                          .max_context_len = 21,
                          .cu_seqlens = ConstTensorView(cu_seqlens.data(), {3}),
                          .context_lens = ConstTensorView(context_lens.data(), {2}),
                          .state_slots = ConstTensorView(slots.data(), {2}),
                          .block_tables = ConstTensorView(blocks.data(), {2, 2})};
    check(rows);
    check_host_rows(rows, TensorView(state.data(), {3, 1}));
    check_host_rows(rows,
                    KvCacheView{TensorView(cache.data(), {4, 16, 1}), TensorView(cache.data(), {4, 16, 1})});
  }

  int64_t num_tokens = 4;
  int64_t num_decode = 1;
  std::vector<int32_t> cu_seqlens = {0, 1, 4};
  std::vector<int32_t> context_lens = {20, 0};
  std::vector<int32_t> slots = {2, 0};
  std::vector<int32_t> blocks = {3, 0, 1, -1};  // the second sequence has one block
  std::vector<float> state = std::vector<float>(3);
  std::vector<float> cache = std::vector<float>(64);
};

TEST_F(HostRows, accepts_what_ragged_rows_promises) {
  EXPECT_NO_THROW(check_all());
}

TEST_F(HostRows, rejects_rows_that_do_not_add_up) {
  cu_seqlens = {0, 1, 5};
  EXPECT_THROW(check_all(), InternalError);
  cu_seqlens = {1, 1, 4};
  EXPECT_THROW(check_all(), InternalError);
  cu_seqlens = {0, 5, 4};
  EXPECT_THROW(check_all(), InternalError);
}

TEST_F(HostRows, rejects_decode_sequences_of_several_rows) {
  num_decode = 2;
  EXPECT_THROW(check_all(), InternalError);
}

TEST_F(HostRows, rejects_context_beyond_the_stated_maximum) {
  context_lens = {21, 0};
  EXPECT_THROW(check_all(), InternalError);
  context_lens = {20, -1};
  EXPECT_THROW(check_all(), InternalError);
}

TEST_F(HostRows, rejects_slots_and_blocks_outside_the_caches) {
  slots = {3, 0};
  EXPECT_THROW(check_all(), InternalError);
  slots = {2, -1};
  EXPECT_THROW(check_all(), InternalError);
  slots = {2, 0};
  blocks = {3, 4, 1, -1};
  EXPECT_THROW(check_all(), InternalError);
  blocks = {3, 0, -1, -1};
  EXPECT_THROW(check_all(), InternalError);
}

TEST(OpChecks, column_slices_of_one_matrix_are_disjoint) {
  std::vector<float> elements(3 * 10);
  const TensorView matrix(elements.data(), {3, 10});
  EXPECT_NO_THROW(check_disjoint(matrix.columns(0, 4), matrix.columns(4, 6), "slices"));
  EXPECT_THROW(check_disjoint(matrix.columns(0, 5), matrix.columns(4, 6), "slices"), InternalError);
  EXPECT_THROW(check_disjoint(matrix.columns(4, 6), matrix.columns(0, 5), "slices"), InternalError);
  EXPECT_THROW(check_disjoint(matrix, matrix.rows(2, 1), "a matrix and its row"), InternalError);
  EXPECT_NO_THROW(check_disjoint(matrix.rows(0, 2), matrix.rows(2, 1), "rows"));
  EXPECT_NO_THROW(check_same_or_disjoint(matrix, matrix, "the same"));
  EXPECT_THROW(check_same_or_disjoint(matrix.columns(0, 5), matrix.columns(1, 5), "shifted"), InternalError);
}

}  // namespace
}  // namespace nemoforge::ops
