// What every backend does besides the ops.
#include "ops/backend.h"

#include <vector>

#include <gtest/gtest.h>

#include "ops/op_test_support.h"

namespace nemoforge::ops {
namespace {

TEST(Backend, copy_moves_exactly_the_bytes_asked_for) {
  Rng rng(1);
  const Tensor values = random_tensor(rng, DType::kF32, {3, 1000});
  for (const auto& backend : backends_under_test()) {
    SCOPED_TRACE(backend->name());
    GuardedTensor from(*backend, values.view());
    GuardedTensor to(*backend, DType::kF32, {1, 1000});
    backend->copy(from.view().rows(1, 1).raw(), to.view().raw(), 4000);
    EXPECT_TRUE(bits_equal(to.download().view(), values.view().rows(1, 1)));
  }
}

// The first call runs the ops, a later one may repeat a recording: each sees the memory as it is then.
TEST(Backend, replay_works_on_the_present_contents_of_memory) {
  Rng rng(2);
  for (const auto& backend : backends_under_test()) {
    SCOPED_TRACE(backend->name());
    GuardedTensor x(*backend, DType::kF32, {2, 64});
    GuardedTensor out(*backend, DType::kF32, {2, 64});
    for (int call = 0; call < 4; ++call) {
      SCOPED_TRACE(call);
      const Tensor values = random_tensor(rng, DType::kF32, {2, 64});
      backend->upload(values.view().raw(), x.view().raw(), 2 * 64 * 4);
      backend->replay({7, 64}, [&] { backend->relu2({.x = x.view(), .out = out.view()}); });
      Tensor expected = make_host_tensor(DType::kF32, {2, 64});
      ReferenceBackend().relu2({.x = values.view(), .out = expected.view()});
      EXPECT_TRUE(all_close(out.download().view(), expected.view(),
                            tolerance_of(DType::kF32, OpClass::kElementwise)));
    }
  }
}

}  // namespace
}  // namespace nemoforge::ops
