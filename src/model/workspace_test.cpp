#include "model/workspace.h"

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "model/batch.h"
#include "model/model_test_support.h"

namespace nemoforge::model {
namespace {

class WorkspaceTest : public testing::Test {
 protected:
  std::unique_ptr<ops::Backend> backend_ = backend_named("reference");
  Workspace workspace_{*backend_};
};

TEST_F(WorkspaceTest, tensors_of_a_pass_do_not_overlap_and_the_next_pass_gets_the_same_addresses) {
  std::vector<void*> first;
  for (int pass = 0; pass < 4; ++pass) {
    workspace_.reset();
    std::vector<void*> addresses;
    for (int64_t i = 0; i < 20; ++i) {
      const TensorView tensor = workspace_.take(DType::kF32, {100'000 + i});
      std::memset(tensor.raw(), static_cast<int>(i), static_cast<size_t>(tensor.numel() * 4));
      addresses.push_back(tensor.raw());
    }
    for (size_t i = 0; i < 20; ++i) EXPECT_EQ(*static_cast<char*>(addresses[i]), static_cast<char>(i));
    if (pass == 1) first = addresses;
    if (pass > 1) {
      EXPECT_EQ(addresses, first);
    }
  }
  // The pieces of the first pass became one of what was needed.
  EXPECT_LT(workspace_.num_bytes(), 20 * 100'020 * 4 + 20 * 256);
}

TEST_F(WorkspaceTest, a_scope_frees_what_was_taken_in_it) {
  const TensorView kept = workspace_.take(DType::kF32, {10});
  void* scoped = nullptr;
  {
    const Workspace::Scope scope(workspace_);
    scoped = workspace_.take(DType::kBF16, {10}).raw();
  }
  EXPECT_EQ(workspace_.take(DType::kBF16, {10}).raw(), scoped);
  EXPECT_NE(kept.raw(), scoped);
}

TEST(Batch, lists_the_rows_whose_logits_are_wanted) {
  const int32_t ids[] = {5, 6, 7};
  Batch batch;
  batch.add_decode(1, {});
  batch.add_prefill(ids, {}, WantedLogits::kNone);
  batch.add_prefill(ids, {}, WantedLogits::kLast);
  batch.add_prefill(ids, {}, WantedLogits::kAll);
  const auto wanted = batch.logit_rows();
  EXPECT_EQ(std::vector<int32_t>(wanted.begin(), wanted.end()), (std::vector<int32_t>{0, 6, 7, 8, 9}));
  EXPECT_EQ(batch.num_decode(), 1);
  EXPECT_THROW(batch.add_decode(1, {}), InternalError) << "decodes come first";
  EXPECT_THROW(batch.add_prefill({}, {}, WantedLogits::kAll), InternalError);
  batch.clear();
  EXPECT_EQ(batch.num_rows(), 0);
  batch.add_decode(1, {});
}

TEST(ModelCaches, plans_the_bytes_that_it_allocates) {
  const auto config = load_model_config(golden_folder("tiny")).value();
  const CacheSizes sizes{.num_slots = 3, .num_blocks = 5, .block_size = 4, .kv_dtype = DType::kBF16};
  // 3 Mamba layers of 3 x 192 convolution inputs and 8 x 16 x 16 state; 1 attention layer of 2 x 16 keys.
  EXPECT_EQ(ModelCaches::slot_bytes(config, DType::kBF16), 3 * (3 * 192 * 2 + 8 * 16 * 16 * 4));
  EXPECT_EQ(ModelCaches::block_bytes(config, sizes), 2 * 4 * 32 * 2);
  const auto backend = backend_named("reference");
  const auto caches = ModelCaches::allocate(config, sizes, DType::kBF16, *backend);
  ASSERT_TRUE(caches);
  EXPECT_EQ(caches->mamba(0).ssm_state.shape(), (Shape{3, 8, 16, 16}));
  EXPECT_EQ(caches->kv(3).k.shape(), (Shape{5, 4, 32}));
  EXPECT_THROW((void)caches->mamba(3), InternalError);
  EXPECT_THROW((void)caches->kv(0), InternalError);
}

}  // namespace
}  // namespace nemoforge::model
