// One NVIDIA GPU. Each op's member function stands in its folder, in <op>_cuda.cu. All work goes to one
// stream, in the order of the calls, but for the second list of concurrently(); nothing synchronises with the
// host but upload, download and synchronize.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <tuple>

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "ops/backend.h"
#include "ops/cuda_shape_limits.h"
#include "ops/cuda_stream.cuh"

namespace nemoforge::ops {

// What CudaBackend::scratch keeps apart.
enum class ScratchPurpose : uint8_t {
  kXAsFloat,
  kWeightAsFloat,
  kOutAsFloat,
  kLoraInner,
  kExpertCounts,
  kAttentionPartials,
  kTokenChoice,
  kChangedLogits
};

class CudaBackend final : public Backend {
 public:
  // On the current device. Throws CudaError.
  CudaBackend();
  ~CudaBackend() override;
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  [[nodiscard]] std::string_view name() const override { return "cuda"; }
  [[nodiscard]] Result<Buffer> allocate(int64_t num_bytes) override;
  void upload(const void* host, void* device, int64_t num_bytes) override;
  void download(const void* device, void* host, int64_t num_bytes) override;
  [[nodiscard]] bool shares_host_memory() const override { return false; }
  // cuBLASLt chooses its kernel by the number of rows.
  [[nodiscard]] bool batch_invariant() const override { return false; }
  [[nodiscard]] ShapeLimits shape_limits() const override { return kCudaShapeLimits; }
  [[nodiscard]] std::optional<DeviceMemory> device_memory() const override;
  void copy(const void* from, void* to, int64_t num_bytes) override;
  void replay(const ReplayKey& key, const std::function<void()>& ops) override;
  void concurrently(const std::function<void()>& first, const std::function<void()>& second) override;
  void fill_zero(void* device, int64_t num_bytes) override;
  void synchronize() override;
  // Where ops go at the moment.
  [[nodiscard]] OpStream& stream() { return stream_; }

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
  void mamba_core(const MambaCoreArgs& args) override;
  void kv_cache_append(const KvCacheAppendArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void router(const RouterArgs& args) override;
  void moe_dispatch(const MoeDispatchArgs& args) override;
  void moe_combine(const MoeCombineArgs& args) override;
  [[nodiscard]] bool chooses_tokens() const override { return true; }
  void choose_tokens(const TokenChoiceArgs& args) override;

 private:
  // out [num_rows, out_features] = x W^T through cuBLASLt, fp32 accumulation; x and W of one dtype (f32 or
  // bf16).
  void matmul(ConstTensorView x, ConstTensorView weight, TensorView out);
  // Device memory that lives until the next call with the same `purpose`; grows, so the first call of a size
  // may allocate. Growth forgets the recordings, which may hold the old address.
  void* scratch(ScratchPurpose purpose, int64_t num_bytes);
  void record(const ReplayKey& key, const std::function<void()>& ops);

  // What cuBLAS recommends for Hopper (its documentation of cublasSetWorkspace).
  static constexpr int64_t kCublasWorkspaceBytes = int64_t{32} << 20;

  // (rows, in_features, out_features, x stride, out stride, x dtype, out dtype) of a matrix product.
  using MatmulKey = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, DType, DType>;
  struct MatmulPlan;

  // Changes to the other lane: stream, cuBLASLt's workspace and scratch memory.
  void swap_lanes();

  cublasLtHandle_t cublas_ = nullptr;
  std::map<MatmulKey, std::shared_ptr<MatmulPlan>> matmul_plans_;
  OpStream stream_;
  void* cublas_workspace_ = nullptr;
  std::map<ScratchPurpose, Buffer> scratch_;
  OpStream other_stream_;
  void* other_cublas_workspace_ = nullptr;
  std::map<ScratchPurpose, Buffer> other_scratch_;
  cudaEvent_t lanes_part_ = nullptr;
  cudaEvent_t lanes_meet_ = nullptr;

  // A step that was seen: once (no graph yet: its scratch has grown, its library's plans are made), or
  // recorded.
  struct Recording {
    cudaGraphExec_t graph = nullptr;
    int64_t last_use = 0;
  };
  static constexpr size_t kMaxRecordings = 128;
  void forget_recordings();

  std::map<ReplayKey, Recording> recordings_;
  int64_t num_replays_ = 0;
};

}  // namespace nemoforge::ops
