// Weights::random: weights without a checkpoint.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/rng.h"
#include "model/convert.h"
#include "model/shape_check.h"
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
    // One behind another, as some backends want the matrices of a grouped product.
    const int64_t bytes = shape.numel() * dtype_bytes(dtype_);
    NF_TRY(Buffer buffer, backend_.allocate(count * bytes));
    std::vector<ConstTensorView> matrices;
    for (int64_t expert = 0; expert < count; ++expert) {
      void* place = static_cast<std::byte*>(buffer.data()) + expert * bytes;
      NF_RETURN_IF_ERROR(fill_scaled(shape, dtype_, place));
      matrices.emplace_back(place, dtype_, shape);
    }
    buffers_.push_back(std::move(buffer));
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

  Result<ConstTensorView> scaled_matrix(const Shape& shape, DType dtype) {
    NF_TRY(Buffer buffer, backend_.allocate(shape.numel() * dtype_bytes(dtype)));
    NF_RETURN_IF_ERROR(fill_scaled(shape, dtype, buffer.data()));
    const ConstTensorView matrix(buffer.data(), dtype, shape);
    buffers_.push_back(std::move(buffer));
    return matrix;
  }

  // Standard deviation 1 / sqrt(in_features): outputs of order one for inputs of order one.
  Status fill_scaled(const Shape& shape, DType dtype, void* place) {
    NF_TRY(const std::byte* source, scaled_pool(dtype, 1 / std::sqrt(static_cast<float>(shape[1]))));
    const int64_t element_bytes = dtype_bytes(dtype);
    auto* target = static_cast<std::byte*>(place);
    for (int64_t begin = 0; begin < shape.numel(); begin += kPieceSize) {
      const int64_t count = std::min(kPieceSize, shape.numel() - begin);
      const auto offset = static_cast<int64_t>(rng_.below(static_cast<uint64_t>(kPoolSize - count + 1)));
      backend_.copy(source + offset * element_bytes, target + begin * element_bytes, count * element_bytes);
    }
    return {};
  }

  // The pool times `scale` in this type, in the backend's memory; the last one is kept, since the experts all
  // ask for the same.
  Result<const std::byte*> scaled_pool(DType dtype, float scale) {
    if (scaled_.data() == nullptr || scaled_dtype_ != dtype || scaled_by_ != scale) {
      std::vector<float> values = pool_;
      for (float& value : values) value *= scale;
      Tensor host = make_host_tensor(dtype, {kPoolSize});
      convert_elements(ConstTensorView(values.data(), {kPoolSize}), host.view());
      const int64_t bytes = kPoolSize * dtype_bytes(dtype);
      backend_.synchronize();  // copies out of the pool before it are done
      NF_TRY(scaled_, backend_.allocate(bytes));
      backend_.upload(host.view().raw(), scaled_.data(), bytes);
      scaled_dtype_ = dtype;
      scaled_by_ = scale;
    }
    return static_cast<const std::byte*>(scaled_.data());
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
  Buffer scaled_;
  DType scaled_dtype_ = DType::kF32;
  float scaled_by_ = 0;
};

}  // namespace

Result<Weights> Weights::random(const ModelConfig& config, DType dtype, uint64_t seed,
                                ops::Backend& backend) {
  NF_CHECK(is_dense_float(dtype)) << dtype_name(dtype);
  NF_RETURN_IF_ERROR(check_shapes(config, backend.shape_limits()));
  Weights weights;
  RandomSource source(dtype, seed, backend, weights.buffers_);
  NF_TRY(weights.weights_, assemble_weights(config, source));
  backend.synchronize();  // the pool that they are copied from ends here
  return weights;
}

}  // namespace nemoforge::model
