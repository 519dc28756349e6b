// Any bytes as a safetensors file: opening either fails or yields views whose every byte can be read.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // An anonymous file: the reader maps by path, and /proc gives this descriptor one.
  static const int fd = ::memfd_create("safetensors_fuzz", 0);
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, data, size, 0) != static_cast<ssize_t>(size)) std::abort();
  const auto file = nemoforge::io::SafetensorsFile::open("/proc/self/fd/" + std::to_string(fd));
  if (!file) return 0;
  unsigned sum = 0;
  for (const auto& [name, tensor] : file->tensors()) {
    const auto* bytes = static_cast<const uint8_t*>(tensor.raw());
    const int64_t count = tensor.numel() * nemoforge::dtype_bytes(tensor.dtype());
    for (int64_t i = 0; i < count; ++i) sum += bytes[i];
  }
  volatile unsigned sink = sum;
  (void)sink;
  return 0;
}
