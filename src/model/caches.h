// What a model remembers of its sequences: keys and values of the attention layers in blocks, states of the
// Mamba layers in slots.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "ops/attention/attention.h"
#include "ops/backend.h"
#include "tensor/buffer.h"
#include "tensor/tensor_view.h"

namespace nemoforge::model {

struct CacheSizes {
  int64_t num_slots = 1;    // sequences (and snapshots) that can keep a state
  int64_t num_blocks = 1;   // KV blocks
  int64_t block_size = 16;  // positions a block
  DType kv_dtype = DType::kF32;
};

// The state of the sequences in one Mamba layer.
struct MambaCache {
  TensorView conv_state;  // [num_slots, conv_kernel - 1, mamba_conv_size], dtype of the activations
  TensorView ssm_state;   // [num_slots, mamba_num_heads, mamba_head_dim, ssm_state_size] f32
};

// A number that no other call in this process gets: tells apart objects that may come to lie at the same
// address.
[[nodiscard]] int64_t next_object_id();

// The memory of one model's caches; move-only. Who holds which slot and block is cache/'s affair. Contents
// are unspecified until a sequence writes them; a sequence that begins at position 0 reads nothing.
class ModelCaches {
 public:
  // `dtype` is that of the activations.
  [[nodiscard]] static Result<ModelCaches> allocate(const ModelConfig& config, const CacheSizes& sizes,
                                                    DType dtype, ops::Backend& backend);

  // Bytes of one more slot and of one more block, over all layers: for planning memory.
  [[nodiscard]] static int64_t slot_bytes(const ModelConfig& config, DType dtype);
  [[nodiscard]] static int64_t block_bytes(const ModelConfig& config, const CacheSizes& sizes);

  [[nodiscard]] const CacheSizes& sizes() const { return sizes_; }
  [[nodiscard]] int64_t id() const { return id_; }
  // The cache of a layer of that kind, by its index among all layers.
  [[nodiscard]] const MambaCache& mamba(int64_t layer_idx) const;
  [[nodiscard]] const ops::KvCacheView& kv(int64_t layer_idx) const;

 private:
  struct LayerCache {
    MambaCache mamba;
    ops::KvCacheView kv;
  };

  CacheSizes sizes_;
  int64_t id_ = next_object_id();
  std::vector<LayerCache> layers_;
  std::vector<Buffer> buffers_;
};

}  // namespace nemoforge::model
