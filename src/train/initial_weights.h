// The weights that a model has before it has learnt anything.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/rng.h"
#include "model/config.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace nemoforge::train {

// Fields keep the names and the defaults of config.json (transformers 5.17.0, configuration_nemotron_h.py).
struct Initialisation {
  double initializer_range = 0.02;  // standard deviation of matrices, convolutions and embeddings
  bool rescale_prenorm_residual = true;
  double time_step_min = 0.001;  // range of softplus(dt_bias)
  double time_step_max = 0.1;
  double time_step_floor = 1e-4;
  DType dtype = DType::kF32;  // "dtype" or "torch_dtype": of the checkpoint to write
};

// From `folder`/config.json. kInvalidData, naming file, key and value, where one is not a positive number or
// flag, or the range of time steps is empty; kUnsupported for a dtype other than float32, bfloat16 and
// float16.
[[nodiscard]] Result<Initialisation> load_initialisation(const std::string& folder);

// Fills `values` (a tensor of this hub name and shape) as transformers 5.17.0 does
// (modeling_nemotron_h.py, NemotronHPreTrainedModel._init_weights, and modeling_utils.py, _init_weights):
//   matrices, convolutions, embeddings   normal, standard deviation initializer_range
//   norms, D                             1
//   biases, e_score_correction_bias      0
//   A_log of head h (from 0)             log(h + 1)
//   dt_bias                              the inverse of softplus at a step drawn log-uniformly from
//                                        [time_step_min, time_step_max), at least time_step_floor
//   out_proj of Mamba layers             with rescale_prenorm_residual: uniform in
//                                        +-1 / sqrt(in_features * num_hidden_layers)
void draw_initial_weight(std::string_view name, const Shape& shape, const model::ModelConfig& config,
                         const Initialisation& initialisation, Rng& rng, std::span<float> values);

}  // namespace nemoforge::train
