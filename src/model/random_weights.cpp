// Weights::random: weights without a checkpoint.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/rng.h"
#include "model/convert.h"
#include "model/weight_source.h"
#include "model/weights.h"

namespace nemoforge::model {
namespace {

// Normal values are drawn once and then copied from random places: billions of draws would take minutes.
constexpr int64_t kPoolSize = int64_t{1} << 21;
constexpr int64_t kPieceSize = int64_t{1} << 16;

class RandomSource final : public WeightSource {
 public:
  RandomSource(DType dtype, uint64_t seed, ops::Backend& backend, std::vector<Buffer>& buffers)
      : dtype_(dtype), rng_(seed), backend_(backend), buffers_(buffers) {
    pool_.resize(static_cast<size_t>(kPoolSize));
    for (float& value : pool_) value = static_cast<float>(rng_.normal());
  }

  Result<ConstTensorView> matrix(const std::string& /*name*/, const Shape& shape) override {
    return scaled_matrix(shape, dtype_);
  }

  Result<ConstTensorView> matrix_f32(const std::string& /*name*/, const Shape& shape) override {
    return scaled_matrix(shape, DType::kF32);
  }

  Result<std::vector<ConstTensorView>> expert_matrices(const std::string& /*prefix*/,
                                                       const std::string& /*projection*/, int64_t count,
                                                       const Shape& shape) override {
    std::vector<ConstTensorView> matrices;
    for (int64_t expert = 0; expert < count; ++expert) {
      NF_TRY(const ConstTensorView matrix, scaled_matrix(shape, dtype_));
      matrices.push_back(matrix);
    }
    return matrices;
  }

  Result<ConstTensorView> parameter(const std::string& /*name*/, const Shape& shape,
                                    ParameterRole role) override {
    Tensor host = make_host_tensor(DType::kF32, shape);
    float* values = host.view().data<float>();
    for (int64_t i = 0; i < shape.numel(); ++i) values[i] = draw(role, shape);
    return upload(host.view());
  }

  [[nodiscard]] bool has(const std::string& /*name*/) const override { return false; }

 private:
  // As the training code of the family initialises them.
  float draw(ParameterRole role, const Shape& shape) {
    switch (role) {
      case ParameterRole::kNorm:
      case ParameterRole::kD:
        return 1;
      case ParameterRole::kConvWeight:
        return static_cast<float>(rng_.normal() / std::sqrt(static_cast<double>(shape[2])));
      case ParameterRole::kALog:
        return static_cast<float>(std::log(1 + 15 * rng_.uniform()));
      case ParameterRole::kDtBias: {
        // The inverse of softplus at a step between 0.001 and 0.1.
        const double step = 0.001 * std::pow(100.0, rng_.uniform());
        return static_cast<float>(std::log(std::expm1(step)));
      }
      case ParameterRole::kBias:
      case ParameterRole::kCorrectionBias:
        return static_cast<float>(0.01 * rng_.normal());
    }
    return 0;
  }

  // Standard deviation 1 / sqrt(in_features): outputs of order one for inputs of order one.
  Result<ConstTensorView> scaled_matrix(const Shape& shape, DType dtype) {
    const Tensor& pool = scaled_pool(dtype, 1 / std::sqrt(static_cast<float>(shape[1])));
    const int64_t element_bytes = dtype_bytes(dtype);
    NF_TRY(Buffer buffer, backend_.allocate(shape.numel() * element_bytes));
    const auto* source = static_cast<const std::byte*>(pool.view().raw());
    auto* target = static_cast<std::byte*>(buffer.data());
    for (int64_t begin = 0; begin < shape.numel(); begin += kPieceSize) {
      const int64_t count = std::min(kPieceSize, shape.numel() - begin);
      const auto offset = static_cast<int64_t>(rng_.below(static_cast<uint64_t>(kPoolSize - count + 1)));
      backend_.upload(source + offset * element_bytes, target + begin * element_bytes, count * element_bytes);
    }
    const ConstTensorView matrix(buffer.data(), dtype, shape);
    buffers_.push_back(std::move(buffer));
    return matrix;
  }

  // The pool times `scale` in this type; the last one is kept, since the experts all ask for the same.
  const Tensor& scaled_pool(DType dtype, float scale) {
    if (scaled_.view() && scaled_.view().dtype() == dtype && scaled_by_ == scale) return scaled_;
    std::vector<float> values = pool_;
    for (float& value : values) value *= scale;
    scaled_ = make_host_tensor(dtype, {kPoolSize});
    convert_elements(ConstTensorView(values.data(), {kPoolSize}), scaled_.view());
    scaled_by_ = scale;
    return scaled_;
  }

  Result<ConstTensorView> upload(const TensorView& host) {
    const int64_t bytes = host.numel() * dtype_bytes(host.dtype());
    NF_TRY(Buffer buffer, backend_.allocate(bytes));
    backend_.upload(host.raw(), buffer.data(), bytes);
    const ConstTensorView placed(buffer.data(), host.dtype(), host.shape());
    buffers_.push_back(std::move(buffer));
    return placed;
  }

  DType dtype_;
  Rng rng_;
  ops::Backend& backend_;
  std::vector<Buffer>& buffers_;
  std::vector<float> pool_;
  Tensor scaled_;
  float scaled_by_ = 0;
};

}  // namespace

Result<Weights> Weights::random(const ModelConfig& config, DType dtype, uint64_t seed,
                                ops::Backend& backend) {
  NF_CHECK(is_dense_float(dtype)) << dtype_name(dtype);
  Weights weights;
  RandomSource source(dtype, seed, backend, weights.buffers_);
  NF_TRY(weights.weights_, assemble_weights(config, source));
  return weights;
}

}  // namespace nemoforge::model
