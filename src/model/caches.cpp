#include "model/caches.h"

#include <atomic>
#include <utility>

#include "base/check.h"

namespace nemoforge::model {
namespace {

Shape conv_state_shape(const ModelConfig& config, int64_t num_slots) {
  return {num_slots, config.conv_kernel - 1, config.mamba_conv_size()};
}

Shape ssm_state_shape(const ModelConfig& config, int64_t num_slots) {
  return {num_slots, config.mamba_num_heads, config.mamba_head_dim, config.ssm_state_size};
}

Shape kv_shape(const ModelConfig& config, const CacheSizes& sizes, int64_t num_blocks) {
  return {num_blocks, sizes.block_size, config.kv_size()};
}

}  // namespace

int64_t next_object_id() {
  static std::atomic<int64_t> next{0};
  return next.fetch_add(1);
}

Result<ModelCaches> ModelCaches::allocate(const ModelConfig& config, const CacheSizes& sizes, DType dtype,
                                          ops::Backend& backend) {
  NF_CHECK(sizes.num_slots > 0 && sizes.num_blocks > 0 && sizes.block_size > 0);
  ModelCaches caches;
  caches.sizes_ = sizes;
  const auto tensor = [&](DType type, const Shape& shape) -> Result<TensorView> {
    NF_TRY(Buffer buffer, backend.allocate(shape.numel() * dtype_bytes(type)));
    const TensorView view(buffer.data(), type, shape);
    caches.buffers_.push_back(std::move(buffer));
    return view;
  };
  for (const LayerKind kind : config.layers) {
    LayerCache layer;
    if (kind == LayerKind::kMamba) {
      NF_TRY(layer.mamba.conv_state, tensor(dtype, conv_state_shape(config, sizes.num_slots)));
      NF_TRY(layer.mamba.ssm_state, tensor(DType::kF32, ssm_state_shape(config, sizes.num_slots)));
    } else if (kind == LayerKind::kAttention) {
      NF_TRY(layer.kv.k, tensor(sizes.kv_dtype, kv_shape(config, sizes, sizes.num_blocks)));
      NF_TRY(layer.kv.v, tensor(sizes.kv_dtype, kv_shape(config, sizes, sizes.num_blocks)));
    }
    caches.layers_.push_back(layer);
  }
  return caches;
}

int64_t ModelCaches::slot_bytes(const ModelConfig& config, DType dtype) {
  if (!config.has_layer(LayerKind::kMamba)) return 0;
  return config.num_layers(LayerKind::kMamba) *
         (conv_state_shape(config, 1).numel() * dtype_bytes(dtype) +
          ssm_state_shape(config, 1).numel() * dtype_bytes(DType::kF32));
}

int64_t ModelCaches::block_bytes(const ModelConfig& config, const CacheSizes& sizes) {
  if (!config.has_layer(LayerKind::kAttention)) return 0;
  return config.num_layers(LayerKind::kAttention) * 2 * kv_shape(config, sizes, 1).numel() *
         dtype_bytes(sizes.kv_dtype);
}

const MambaCache& ModelCaches::mamba(int64_t layer_idx) const {
  const MambaCache& cache = layers_.at(static_cast<size_t>(layer_idx)).mamba;
  NF_CHECK(static_cast<bool>(cache.ssm_state)) << "layer " << layer_idx << " is not a Mamba layer";
  return cache;
}

const ops::KvCacheView& ModelCaches::kv(int64_t layer_idx) const {
  const ops::KvCacheView& cache = layers_.at(static_cast<size_t>(layer_idx)).kv;
  NF_CHECK(static_cast<bool>(cache.k)) << "layer " << layer_idx << " is not an attention layer";
  return cache;
}

}  // namespace nemoforge::model
