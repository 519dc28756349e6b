#include "base/check.h"
#include "ops/element_access.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {

void ReferenceTrainingBackend::embedding_backward(const EmbeddingBackwardArgs& args) {
  check(args);
  for (int64_t row = 0; row < args.d_out.size(0); ++row) {
    const int64_t id = args.ids.data<int32_t>()[row];
    NF_CHECK(id >= 0 && id < args.d_table.size(0)) << id << " of " << args.d_table.size(0);
    for (int64_t i = 0; i < args.d_out.size(1); ++i) {
      add_element(args.d_table, id, i, load_element(args.d_out, row, i));
    }
  }
}

}  // namespace nemoforge::ops
