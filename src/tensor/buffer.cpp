#include "tensor/buffer.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "base/integers.h"

namespace nemoforge {
namespace {

// One cache line; also what 512-bit loads like best.
constexpr int64_t kHostAlignment = 64;

}  // namespace

Buffer allocate_host(int64_t num_bytes) {
  const auto size = static_cast<size_t>(round_up(std::max<int64_t>(num_bytes, 1), kHostAlignment));
  void* data = std::aligned_alloc(kHostAlignment, size);
  if (data == nullptr) throw std::bad_alloc();
  return Buffer(data, num_bytes, [](void* memory) { std::free(memory); });
}

}  // namespace nemoforge
