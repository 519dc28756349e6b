#include "base/check.h"
#include "ops/element_access.h"
#include "ops/reference_backend.h"

namespace nemoforge::ops {

void ReferenceBackend::embedding(const EmbeddingArgs& args) {
  check(args);
  for (int64_t row = 0; row < args.out.size(0); ++row) {
    const int64_t id = args.ids.data<int32_t>()[row];
    NF_CHECK(id >= 0 && id < args.table.size(0)) << id << " of " << args.table.size(0);
    for (int64_t column = 0; column < args.out.size(1); ++column) {
      store_element(args.out, row, column, load_element(args.table, id, column));
    }
  }
}

}  // namespace nemoforge::ops
