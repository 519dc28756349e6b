// The naive implementations in double precision. Each op's member function stands in its folder, in
// <op>_reference.cpp, and reads like the formula of its header.
#pragma once

#include <string_view>

#include "ops/host_backend.h"

namespace nemoforge::ops {

class ReferenceBackend final : public HostBackend {
 public:
  [[nodiscard]] std::string_view name() const override { return "reference"; }

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
  [[nodiscard]] bool chooses_tokens() const override { return true; }
  void choose_tokens(const TokenChoiceArgs& args) override;
};

}  // namespace nemoforge::ops
