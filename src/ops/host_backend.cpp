#include "ops/host_backend.h"

#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "ops/cpu_backend.h"
#include "ops/reference_backend.h"

namespace nemoforge::ops {

Result<Buffer> HostBackend::allocate(int64_t num_bytes) {
  try {
    return allocate_host(num_bytes);
  } catch (const std::bad_alloc&) {
    return error(ErrorCode::kResourceExhausted,
                 "cannot allocate " + std::to_string(num_bytes) + " bytes of host memory");
  }
}

void HostBackend::upload(const void* host, void* device, int64_t num_bytes) {
  std::memcpy(device, host, static_cast<size_t>(num_bytes));
}

void HostBackend::download(const void* device, void* host, int64_t num_bytes) {
  std::memcpy(host, device, static_cast<size_t>(num_bytes));
}

void HostBackend::copy(const void* from, void* to, int64_t num_bytes) {
  std::memcpy(to, from, static_cast<size_t>(num_bytes));
}

void HostBackend::fill_zero(void* device, int64_t num_bytes) {
  std::memset(device, 0, static_cast<size_t>(num_bytes));
}

std::unique_ptr<Backend> make_reference_backend() {
  return std::make_unique<ReferenceBackend>();
}

std::unique_ptr<Backend> make_cpu_backend() {
  return std::make_unique<CpuBackend>(ThreadPool::global());
}

}  // namespace nemoforge::ops
