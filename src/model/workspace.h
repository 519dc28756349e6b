// Memory of the activations of a forward pass.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/backend.h"
#include "tensor/buffer.h"
#include "tensor/tensor_view.h"

namespace nemoforge::model {

// A stack of tensors in a backend's memory. take() only moves a mark; memory is asked of the backend when a
// pass needs more than any before it, and stays. The same calls after a reset() give the same addresses.
class Workspace {
 public:
  explicit Workspace(ops::Backend& backend) : backend_(&backend) {}

  // A tensor of unspecified contents, valid until the scope it was taken in ends, or reset(). Throws
  // std::bad_alloc where the backend has no memory left.
  [[nodiscard]] TensorView take(DType dtype, const Shape& shape);

  // Frees everything at once, for the next pass.
  void reset();

  // Frees at its end what was taken since its beginning.
  class Scope {
   public:
    explicit Scope(Workspace& workspace)
        : workspace_(workspace),
          chunk_idx_(workspace.chunk_idx_),
          used_bytes_(workspace.used_bytes_),
          live_bytes_(workspace.live_bytes_) {}
    ~Scope() {
      workspace_.chunk_idx_ = chunk_idx_;
      workspace_.used_bytes_ = used_bytes_;
      workspace_.live_bytes_ = live_bytes_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Workspace& workspace_;
    size_t chunk_idx_;
    int64_t used_bytes_;
    int64_t live_bytes_;
  };

  // Memory held.
  [[nodiscard]] int64_t num_bytes() const;

 private:
  void add_chunk(int64_t num_bytes);

  ops::Backend* backend_;
  std::vector<Buffer> chunks_;  // one, but during the passes in which the need grows
  size_t chunk_idx_ = 0;        // the chunk that is being filled
  int64_t used_bytes_ = 0;      // of that chunk
  int64_t live_bytes_ = 0;      // taken and not freed
  int64_t peak_bytes_ = 0;      // the most that was ever live
};

}  // namespace nemoforge::model
