// What the backends that work in host memory share: allocation and copies.
#pragma once

#include "ops/backend.h"

namespace nemoforge::ops {

class HostBackend : public Backend {
 public:
  [[nodiscard]] Result<Buffer> allocate(int64_t num_bytes) override;
  void upload(const void* host, void* device, int64_t num_bytes) override;
  void download(const void* device, void* host, int64_t num_bytes) override;
  [[nodiscard]] bool shares_host_memory() const override { return true; }
  void copy(const void* from, void* to, int64_t num_bytes) override;
  void fill_zero(void* device, int64_t num_bytes) override;
  void synchronize() override {}
};

}  // namespace nemoforge::ops
