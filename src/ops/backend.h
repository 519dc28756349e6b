// The operators of the model as an interface: one pure virtual function an op, so that an op which a backend
// lacks is a compile error. Contracts (formula, shapes, dtypes, rounding, aliasing) stand in the ops' own
// headers.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "ops/attention/attention.h"
#include "ops/causal_conv1d/causal_conv1d.h"
#include "ops/embedding/embedding.h"
#include "ops/gated_rms_norm/gated_rms_norm.h"
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/linear.h"
#include "ops/lora/lora.h"
#include "ops/mamba_core/mamba_core.h"
#include "ops/moe/moe.h"
#include "ops/relu2/relu2.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/router/router.h"
#include "ops/ssd_scan/ssd_scan.h"
#include "ops/token_choice/token_choice.h"
#include "tensor/buffer.h"

namespace nemoforge::ops {

// Memory of a device that has its own.
struct DeviceMemory {
  int64_t free_bytes = 0;
  int64_t total_bytes = 0;
};

// The widest shapes that a backend's kernels take. A model or adapter beyond them is refused when it is
// loaded, before any op runs.
struct ShapeLimits {
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  int64_t hidden_size = kNone;
  int64_t head_dim = kNone;  // of attention
  int64_t ssm_state_size = kNone;
  int64_t norm_group_size = kNone;  // channels a group of the gated norm
  int64_t num_experts = kNone;
  int64_t num_expert_groups = kNone;
  int64_t top_k = kNone;  // experts a token
  int64_t lora_rank = kNone;
};

// Everything that a sequence of ops depends on besides the contents of memory: sizes, addresses, identities.
using ReplayKey = std::vector<int64_t>;

// A device with its memory and its implementation of every op. Ops are asynchronous on backends with a
// stream: they run in the order of the calls, and synchronize() waits for them. All views passed to an op
// point into memory of this backend. Preconditions are checked (NF_CHECK) before any work. Not for use from
// several threads at once.
class Backend {
 public:
  virtual ~Backend() = default;

  // "reference", "cpu" or "cuda".
  [[nodiscard]] virtual std::string_view name() const = 0;

  // Memory of unspecified contents; kResourceExhausted (bytes asked, bytes free) where there is not enough.
  [[nodiscard]] virtual Result<Buffer> allocate(int64_t num_bytes) = 0;
  // Copies between host memory and this backend's. upload returns when `host` may be reused, download when it
  // is filled.
  virtual void upload(const void* host, void* device, int64_t num_bytes) = 0;
  virtual void download(const void* device, void* host, int64_t num_bytes) = 0;
  // True where host memory (a mapped checkpoint) can be read by ops without upload.
  [[nodiscard]] virtual bool shares_host_memory() const = 0;
  // True where a row's bits never depend on the rest of the batch (RaggedRows), whatever its size.
  [[nodiscard]] virtual bool batch_invariant() const { return true; }
  [[nodiscard]] virtual ShapeLimits shape_limits() const { return {}; }
  // Absent where the memory is the host's.
  [[nodiscard]] virtual std::optional<DeviceMemory> device_memory() const { return std::nullopt; }
  // Between two places of this backend's memory that do not overlap, in the order of the ops.
  virtual void copy(const void* from, void* to, int64_t num_bytes) = 0;
  virtual void fill_zero(void* device, int64_t num_bytes) = 0;
  virtual void synchronize() = 0;

  // Runs `ops`, which calls ops of this backend and nothing that waits for the device. A backend may record
  // what they do, and at a later call with an equal key repeat that in place of calling `ops`.
  virtual void replay(const ReplayKey& /*key*/, const std::function<void()>& ops) { ops(); }
  // Runs two lists of ops of which neither reads or overwrites what the other writes. A backend may let them
  // overlap; ops called afterwards find both done.
  virtual void concurrently(const std::function<void()>& first, const std::function<void()>& second) {
    first();
    second();
  }

  virtual void embedding(const EmbeddingArgs& args) = 0;
  virtual void rms_norm(const RmsNormArgs& args) = 0;
  virtual void add_rms_norm(const AddRmsNormArgs& args) = 0;
  virtual void gated_rms_norm(const GatedRmsNormArgs& args) = 0;
  virtual void linear(const LinearArgs& args) = 0;
  virtual void grouped_linear(const GroupedLinearArgs& args) = 0;
  virtual void lora_add(const LoraAddArgs& args) = 0;
  virtual void relu2(const Relu2Args& args) = 0;
  virtual void causal_conv1d(const CausalConv1dArgs& args) = 0;
  virtual void ssd_scan(const SsdScanArgs& args) = 0;
  virtual void kv_cache_append(const KvCacheAppendArgs& args) = 0;
  virtual void attention(const AttentionArgs& args) = 0;
  virtual void router(const RouterArgs& args) = 0;
  virtual void moe_dispatch(const MoeDispatchArgs& args) = 0;
  virtual void moe_combine(const MoeCombineArgs& args) = 0;

  // The convolution, the scan and the gated norm of a Mamba-2 mixer; a backend may compute the three at once.
  virtual void mamba_core(const MambaCoreArgs& args);

  // True where choose_tokens works; elsewhere src/sampling reads the logits where they are.
  [[nodiscard]] virtual bool chooses_tokens() const { return false; }
  // Waits for the device.
  virtual void choose_tokens(const TokenChoiceArgs& args);
};

// The naive implementations in double precision: the oracle of the tests, and the formulas as code.
[[nodiscard]] std::unique_ptr<Backend> make_reference_backend();
// All cores (ThreadPool::global()), SIMD by Highway.
[[nodiscard]] std::unique_ptr<Backend> make_cpu_backend();

}  // namespace nemoforge::ops
