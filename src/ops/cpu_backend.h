// All cores of the machine. Each op's member function stands in its folder, in <op>_cpu.cpp.
#pragma once

#include <string_view>

#include "base/thread_pool.h"
#include "ops/host_backend.h"

namespace nemoforge::ops {

class CpuBackend final : public HostBackend {
 public:
  explicit CpuBackend(ThreadPool& pool) : pool_(pool) {}

  [[nodiscard]] std::string_view name() const override { return "cpu"; }

  void embedding(const EmbeddingArgs& args) override;
  void rms_norm(const RmsNormArgs& args) override;
  void add_rms_norm(const AddRmsNormArgs& args) override;
  void gated_rms_norm(const GatedRmsNormArgs& args) override;
  void linear(const LinearArgs& args) override;
  void grouped_linear(const GroupedLinearArgs& args) override;
  void lora_add(const LoraAddArgs& args) override;
  void relu2(const Relu2Args& args) override;
  void causal_conv1d(const CausalConv1dArgs& args) override;
  void ssd_scan(const SsdScanArgs& args) override;
  void kv_cache_append(const KvCacheAppendArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void router(const RouterArgs& args) override;
  void moe_dispatch(const MoeDispatchArgs& args) override;
  void moe_combine(const MoeCombineArgs& args) override;

 private:
  ThreadPool& pool_;
};

}  // namespace nemoforge::ops
