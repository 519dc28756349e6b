#include "ops/scratch.h"

#include "tensor/buffer.h"

namespace nemoforge::ops {

float* thread_scratch(int64_t num_floats) {
  thread_local Buffer buffer;
  const int64_t num_bytes = num_floats * static_cast<int64_t>(sizeof(float));
  if (buffer.num_bytes() < num_bytes) {
    buffer = Buffer();  // free the old block before asking for the larger one
    buffer = allocate_host(num_bytes);
  }
  return static_cast<float*>(buffer.data());
}

}  // namespace nemoforge::ops
