#include "train/lora_dropout.h"

#include "base/check.h"

namespace nemoforge::train {
namespace {

// Apart from the streams that draw initial values, the order of documents and the evaluation split.
constexpr uint64_t kDropoutStream = uint64_t{1} << 63;
constexpr int kTargetBits = 4;
constexpr int kLayerBits = 16;

}  // namespace

ops::DropoutMask LoraDropout::mask(int64_t layer_idx, model::LoraTarget target) const {
  static_assert(model::kNumLoraTargets <= size_t{1} << kTargetBits);
  NF_CHECK(layer_idx < int64_t{1} << kLayerBits) << layer_idx;
  const uint64_t stream = (static_cast<uint64_t>(pass_idx_) << (kLayerBits + kTargetBits)) |
                          (static_cast<uint64_t>(layer_idx) << kTargetBits) | static_cast<uint64_t>(target);
  return {.probability = probability_, .seed = seed_, .stream = kDropoutStream | stream};
}

ConstTensorView LoraDropout::apply(const model::ForwardContext& context, model::LoraTarget target,
                                   const ConstTensorView& x) const {
  const TensorView dropped = context.workspace.take(x.dtype(), x.shape());
  context.backend.fill_zero(dropped.raw(), dropped.numel() * dtype_bytes(x.dtype()));
  training_->dropout({.x = x, .mask = mask(context.layer_idx, target), .out = dropped});
  return dropped;
}

void LoraDropout::add_gradient(int64_t layer_idx, model::LoraTarget target, const ConstTensorView& d_dropped,
                               const TensorView& d_x) const {
  training_->dropout({.x = d_dropped, .mask = mask(layer_idx, target), .out = d_x});
}

}  // namespace nemoforge::train
