#include "ops/embedding/embedding.h"

#include <string>

#include <gtest/gtest.h>

#include "ops/embedding/embedding_cases.h"
#include "ops/op_test_support.h"

namespace nemoforge::ops {
namespace {

Tensor random_ids(Rng& rng, int64_t count, int64_t bound) {
  Tensor ids = make_host_tensor(DType::kI32, {count});
  for (int64_t i = 0; i < count; ++i) {
    ids.view().data<int32_t>()[i] = static_cast<int32_t>(rng.below(static_cast<uint64_t>(bound)));
  }
  return ids;
}

TEST(Embedding, rows_are_the_tables_rows) {
  uint64_t seed = 500;
  for (const EmbeddingCase& c : embedding_cases()) {
    SCOPED_TRACE(std::string(c.name) + ", seed " + std::to_string(++seed));
    Rng rng(seed);
    const Tensor ids = random_ids(rng, c.num_rows, c.num_embeddings);
    const Tensor table = random_tensor(rng, c.table_dtype, {c.num_embeddings, c.hidden_size});
    Tensor expected = make_host_tensor(c.out_dtype, {c.num_rows, c.hidden_size});
    for (int64_t row = 0; row < c.num_rows; ++row) {
      const int64_t id = ids.view().data<int32_t>()[row];
      for (int64_t column = 0; column < c.hidden_size; ++column) {
        store_element(expected.view(), row, column, load_element(table.view(), id, column));
      }
    }
    auto backends = backends_under_test();
    backends.push_back(make_reference_backend());
    for (const auto& backend : backends) {
      SCOPED_TRACE(backend->name());
      GuardedTensor ids_device(*backend, ids.view());
      GuardedTensor table_device(*backend, table.view(), c.hidden_size + c.table_row_gap);
      GuardedTensor out(*backend, c.out_dtype, {c.num_rows, c.hidden_size}, c.hidden_size + c.out_row_gap);
      backend->embedding({ids_device.view(), table_device.view(), out.view()});
      EXPECT_TRUE(bits_equal(out.download().view(), expected.view()));  // data movement is exact
    }
  }
}

TEST(Embedding, rejects_what_the_contract_excludes) {
  int32_t ids[] = {0, 3};
  float table[12] = {};
  float out[8] = {};
  for (const auto& backend : backends_under_test()) {
    const ConstTensorView ids_view(ids, {2});
    const ConstTensorView table_view(table, {3, 4});
    EXPECT_THROW(backend->embedding({ids_view, table_view, TensorView(out, {2, 3})}), InternalError);
    EXPECT_THROW(backend->embedding({ids_view, table_view, TensorView(table, {2, 4})}), InternalError);
    EXPECT_THROW(backend->embedding({ConstTensorView(table, {2}), table_view, TensorView(out, {2, 4})}),
                 InternalError);
    if (!backend->shares_host_memory()) continue;  // ids in device memory are not read by the host
    EXPECT_THROW(backend->embedding({ids_view, table_view, TensorView(out, {2, 4})}), InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
