// What a decode step costs besides its ops: the demo checkpoint on a backend whose ops do nothing.
#include <cstdint>
#include <numeric>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/check.h"
#include "model/model.h"
#include "ops/host_backend.h"

namespace nemoforge::model {
namespace {

class IdleBackend final : public ops::HostBackend {
 public:
  [[nodiscard]] std::string_view name() const override { return "idle"; }
  void embedding(const ops::EmbeddingArgs& /*args*/) override {}
  void rms_norm(const ops::RmsNormArgs& /*args*/) override {}
  void add_rms_norm(const ops::AddRmsNormArgs& /*args*/) override {}
  void gated_rms_norm(const ops::GatedRmsNormArgs& /*args*/) override {}
  void linear(const ops::LinearArgs& /*args*/) override {}
  void grouped_linear(const ops::GroupedLinearArgs& /*args*/) override {}
  void lora_add(const ops::LoraAddArgs& /*args*/) override {}
  void relu2(const ops::Relu2Args& /*args*/) override {}
  void causal_conv1d(const ops::CausalConv1dArgs& /*args*/) override {}
  void ssd_scan(const ops::SsdScanArgs& /*args*/) override {}
  void kv_cache_append(const ops::KvCacheAppendArgs& /*args*/) override {}
  void attention(const ops::AttentionArgs& /*args*/) override {}
  void router(const ops::RouterArgs& /*args*/) override {}
  void moe_dispatch(const ops::MoeDispatchArgs& /*args*/) override {}
  void moe_combine(const ops::MoeCombineArgs& /*args*/) override {}
};

void decode_step_without_ops(benchmark::State& state) {
  constexpr int64_t kBlocksEach = 64;
  const int64_t batch_size = state.range(0);
  IdleBackend backend;
  auto model = Model::load(NEMOFORGE_SOURCE_DIR "/models/demo", DType::kF32, backend);
  NF_CHECK(model.has_value()) << model.error().to_string();
  const auto caches =
      model->allocate_caches({.num_slots = batch_size, .num_blocks = batch_size * kBlocksEach}).value();
  std::vector<int32_t> blocks(static_cast<size_t>(batch_size * kBlocksEach));
  std::iota(blocks.begin(), blocks.end(), 0);
  Batch batch;
  for (auto _ : state) {
    batch.clear();
    for (int32_t i = 0; i < batch_size; ++i) {
      const auto own = std::span(blocks).subspan(static_cast<size_t>(i * kBlocksEach), kBlocksEach);
      batch.add_decode(7, {.context_len = 500, .state_slot = i, .kv_blocks = own, .adapter = nullptr});
    }
    benchmark::DoNotOptimize(model->forward(batch, caches));
  }
}
BENCHMARK(decode_step_without_ops)->Arg(1)->Arg(8)->Arg(64)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace nemoforge::model

BENCHMARK_MAIN();
