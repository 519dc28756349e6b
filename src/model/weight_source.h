// How the tensors of a model come to be, one by one: read from a checkpoint, or drawn at random.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "model/weights.h"
#include "ops/linear/linear.h"
#include "tensor/tensor_view.h"

namespace nemoforge::model {

// What a small tensor means, for those who make one up.
enum class ParameterRole { kNorm, kConvWeight, kBias, kALog, kD, kDtBias, kCorrectionBias };

// Whether a role's tensors are f32 whatever they are stored in: the state-space recurrence and the router.
[[nodiscard]] bool is_kept_in_f32(ParameterRole role);

// Names are the hub's without the leading "backbone.", e.g. "layers.0.mixer.in_proj.weight".
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  WeightSource() = default;
  WeightSource(const WeightSource&) = delete;
  WeightSource& operator=(const WeightSource&) = delete;

  // A matrix [out_features, in_features] in the element type of linear weights.
  [[nodiscard]] virtual Result<ConstTensorView> matrix(const std::string& name, const Shape& shape) = 0;
  // A matrix in f32: the router's.
  [[nodiscard]] virtual Result<ConstTensorView> matrix_f32(const std::string& name, const Shape& shape) = 0;
  // `count` matrices of one element type: `prefix`.E.`projection`.weight.
  [[nodiscard]] virtual Result<std::vector<ConstTensorView>> expert_matrices(const std::string& prefix,
                                                                             const std::string& projection,
                                                                             int64_t count,
                                                                             const Shape& shape) = 0;
  // A small tensor in whatever float type it is stored in, or in f32 where is_kept_in_f32.
  [[nodiscard]] virtual Result<ConstTensorView> parameter(const std::string& name, const Shape& shape,
                                                          ParameterRole role) = 0;
  // Whether an optional tensor is there (the head of a model that says it is tied).
  [[nodiscard]] virtual bool has(const std::string& name) const = 0;
};

// Asks `source` for every tensor that a model of this configuration has.
[[nodiscard]] Result<ModelWeights> assemble_weights(const ModelConfig& config, WeightSource& source);

}  // namespace nemoforge::model
