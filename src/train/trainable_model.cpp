#include "train/trainable_model.h"

#include <cmath>
#include <new>
#include <optional>
#include <utility>

#include "base/rng.h"
#include "model/convert.h"
#include "model/workspace.h"
#include "ops/training_backend.h"
#include "train/backward.h"
#include "train/gradient_map.h"
#include "train/lora_dropout.h"
#include "train/weight_names.h"

namespace nemoforge::train {

struct TrainableModel::State {
  State(const model::ModelConfig& model_config, model::Weights initial, ops::Backend& model_backend)
      : config(model_config),
        frozen_weights(std::move(initial)),
        weights(**frozen_weights),
        backend(&model_backend),
        workspace(model_backend) {}

  model::ModelConfig config;
  std::optional<model::Weights> frozen_weights;  // full training lets go of what it has copied
  model::ModelWeights weights;                   // with the values under training
  ops::Backend* backend;
  std::unique_ptr<ops::TrainingBackend> training;
  model::Workspace workspace;
  std::optional<model::LoraAdapter> adapter;
  std::vector<Buffer> buffers;
  ParameterSet parameters;
  std::vector<FrozenTensor> frozen;
  std::vector<std::pair<std::string, TensorView>> frozen_values;  // those of `frozen`, to be written
  GradientMap gradients;
  Recomputation recomputation;
  double lora_dropout = 0;
  uint64_t seed = 0;

  // f32 memory of this shape.
  Result<TensorView> allocate(const Shape& shape) {
    NF_TRY(Buffer buffer, backend->allocate(shape.numel() * dtype_bytes(DType::kF32)));
    const TensorView view(buffer.data(), DType::kF32, shape);
    buffers.push_back(std::move(buffer));
    return view;
  }

  Status add_parameter(const std::string& name, ModuleClass module_class, const TensorView& value,
                       const Shape& file_shape, bool weight_decay) {
    NF_TRY(const TensorView grad, allocate(file_shape));
    gradients.add(value, grad);
    parameters.parameters.push_back({name, module_class, value.reshape(file_shape), grad, weight_decay});
    return {};
  }

  // An f32 copy of a weight takes the weight's place.
  Result<TensorView> copy_weight(const NamedWeight& weight) {
    const ConstTensorView stored = *weight.view;
    Tensor host = make_host_tensor(stored.dtype(), stored.shape());
    const int64_t stored_bytes = stored.numel() * dtype_bytes(stored.dtype());
    backend->synchronize();
    backend->download(stored.raw(), host.view().raw(), stored_bytes);
    Tensor converted = make_host_tensor(DType::kF32, stored.shape());
    model::convert_elements(host.view(), converted.view());
    NF_TRY(const TensorView value, allocate(stored.shape()));
    backend->upload(converted.view().raw(), value.raw(), value.numel() * dtype_bytes(DType::kF32));
    *weight.view = value;
    return value;
  }

  Status take_over(const NamedWeight& weight) {
    NF_TRY(const TensorView value, copy_weight(weight));
    if (is_always_frozen(weight)) {
      frozen_values.emplace_back(weight.name, value);
      frozen.push_back({weight.name, ConstTensorView(value).reshape(weight.file_shape)});
      return {};
    }
    return add_parameter(weight.name, weight.module_class, value, weight.file_shape, weight.weight_decay);
  }

  Result<LossSum> run(const TrainBatch& batch, float scale, bool wants_gradients,
                      std::span<float> token_losses, const LogitsTap& tap) {
    NF_RETURN_IF_ERROR(check_batch(batch, config));
    std::optional<LoraDropout> dropout;
    if (wants_gradients && lora_dropout > 0) dropout.emplace(*training, lora_dropout, seed, batch.pass_idx);
    const PassArgs args{.backend = *backend,
                        .training = *training,
                        .config = config,
                        .weights = weights,
                        .adapter = adapter ? &*adapter : nullptr,
                        .gradients = gradients,
                        .dropout = dropout ? &*dropout : nullptr,
                        .workspace = workspace,
                        .recomputation = recomputation};
    try {
      return run_pass(args, batch, scale, wants_gradients, token_losses, tap);
    } catch (const std::bad_alloc&) {
      return error(ErrorCode::kResourceExhausted,
                   "not enough memory for the activations of " + std::to_string(batch.num_rows()) + " rows",
                   "train on fewer rows at a time");
    }
  }
};

namespace {

std::vector<model::LoraTarget> targets_of(const LoraTargets& targets) {
  using enum model::LoraTarget;
  std::vector<model::LoraTarget> result;
  const auto add = [&](bool wanted, std::initializer_list<model::LoraTarget> some) {
    if (wanted) result.insert(result.end(), some);
  };
  add(targets.mamba, {kInProj, kOutProj});
  add(targets.attention, {kQProj, kKProj, kVProj, kOProj});
  add(targets.mlp, {kUpProj, kDownProj});
  add(targets.shared_experts, {kSharedUpProj, kSharedDownProj});
  add(targets.experts, {kExpertUpProj, kExpertDownProj});
  return result;
}

ModuleClass module_class_of(model::LoraTarget target) {
  switch (target) {
    case model::LoraTarget::kInProj:
    case model::LoraTarget::kOutProj:
      return ModuleClass::kMamba;
    case model::LoraTarget::kQProj:
    case model::LoraTarget::kKProj:
    case model::LoraTarget::kVProj:
    case model::LoraTarget::kOProj:
      return ModuleClass::kAttention;
    case model::LoraTarget::kUpProj:
    case model::LoraTarget::kDownProj:
      return ModuleClass::kMlp;
    case model::LoraTarget::kSharedUpProj:
    case model::LoraTarget::kSharedDownProj:
      return ModuleClass::kSharedExperts;
    case model::LoraTarget::kExpertUpProj:
    case model::LoraTarget::kExpertDownProj:
      return ModuleClass::kExperts;
  }
  return ModuleClass::kMamba;
}

// Each pair has its own stream of random numbers: its values do not depend on which others there are.
void initialise(const model::TrainableLoraPair& pair, uint64_t seed, uint64_t stream, ops::Backend& backend) {
  Rng rng(seed, stream);
  const double bound = 1 / std::sqrt(static_cast<double>(pair.a.size(1)));
  std::vector<float> values(static_cast<size_t>(pair.a.numel()));
  for (float& value : values) value = static_cast<float>((2 * rng.uniform() - 1) * bound);
  backend.upload(values.data(), pair.a.raw(), pair.a.numel() * dtype_bytes(DType::kF32));
  backend.fill_zero(pair.b.raw(), pair.b.numel() * dtype_bytes(DType::kF32));
}

}  // namespace

Result<TrainableModel> TrainableModel::full(const model::ModelConfig& config, model::Weights weights,
                                            ops::Backend& backend) {
  auto state = std::make_unique<State>(config, std::move(weights), backend);
  NF_TRY(state->training, ops::make_training_backend(backend));
  Status status;
  for_each_weight(state->weights, [&](const NamedWeight& weight) {
    if (status) status = state->take_over(weight);
  });
  NF_RETURN_IF_ERROR(status);
  state->frozen_weights.reset();
  TrainableModel result(std::move(state));
  result.zero_gradients();
  return result;
}

Result<TrainableModel> TrainableModel::initial(const model::ModelConfig& config,
                                               const Initialisation& initialisation, uint64_t seed,
                                               ops::Backend& backend) {
  // Weights of the right shapes, whose values are then replaced.
  NF_TRY(model::Weights shaped, model::Weights::random(config, DType::kF32, seed, backend));
  NF_TRY(TrainableModel result, full(config, std::move(shaped), backend));
  uint64_t stream = 0;
  const auto draw = [&](const std::string& name, const TensorView& value) {
    Rng rng(seed, stream++);
    std::vector<float> values(static_cast<size_t>(value.numel()));
    draw_initial_weight(name, value.shape(), config, initialisation, rng, values);
    backend.upload(values.data(), value.raw(), value.numel() * dtype_bytes(DType::kF32));
  };
  for (const Parameter& parameter : result.state_->parameters.parameters) {
    draw(parameter.name, parameter.value);
  }
  for (const auto& [name, value] : result.state_->frozen_values) draw(name, value);
  return result;
}

Result<TrainableModel> TrainableModel::lora(const model::ModelConfig& config, model::Weights weights,
                                            const LoraOptions& options, ops::Backend& backend) {
  if (options.rank < 1) {
    return error(ErrorCode::kInvalidArgument,
                 "the rank of an adapter must be at least 1, not " + std::to_string(options.rank));
  }
  if (!(options.dropout >= 0 && options.dropout < 1)) {
    return error(ErrorCode::kInvalidArgument,
                 "the dropout of an adapter must be in [0, 1), not " + std::to_string(options.dropout));
  }
  auto state = std::make_unique<State>(config, std::move(weights), backend);
  NF_TRY(state->training, ops::make_training_backend(backend));
  state->lora_dropout = options.dropout;
  state->seed = options.seed;
  const auto rank = static_cast<double>(options.rank);
  const double scale = options.alpha / (options.use_rslora ? std::sqrt(rank) : rank);
  std::vector<model::TrainableLoraPair> pairs;
  NF_TRY(state->adapter, model::LoraAdapter::allocate(config, targets_of(options.targets), options.rank,
                                                      static_cast<float>(scale), backend, pairs));
  if (pairs.empty()) {
    return error(ErrorCode::kInvalidArgument, "no linear layer to adapt: the model's layers are " +
                                                  config.pattern() + ", and none of them is a target");
  }
  for (size_t i = 0; i < pairs.size(); ++i) {
    const model::TrainableLoraPair& pair = pairs[i];
    initialise(pair, options.seed, i, backend);
    const std::string name = "base_model.model." + pair.module;
    const ModuleClass module_class = module_class_of(pair.target);
    NF_RETURN_IF_ERROR(
        state->add_parameter(name + ".lora_A.weight", module_class, pair.a, pair.a.shape(), true));
    NF_RETURN_IF_ERROR(
        state->add_parameter(name + ".lora_B.weight", module_class, pair.b, pair.b.shape(), true));
  }
  TrainableModel result(std::move(state));
  result.zero_gradients();
  return result;
}

TrainableModel::TrainableModel(std::unique_ptr<State> state) : state_(std::move(state)) {}
TrainableModel::TrainableModel(TrainableModel&&) noexcept = default;
TrainableModel& TrainableModel::operator=(TrainableModel&&) noexcept = default;
TrainableModel::~TrainableModel() = default;

Result<LossSum> TrainableModel::accumulate_gradients(const TrainBatch& batch, float scale) {
  return state_->run(batch, scale, true, {}, {});
}

Result<LossSum> TrainableModel::evaluate(const TrainBatch& batch, const LogitsTap& tap) {
  return state_->run(batch, 1, false, {}, tap);
}

Result<std::vector<float>> TrainableModel::token_losses(const TrainBatch& batch) {
  std::vector<float> losses(batch.token_ids.size());
  NF_TRY([[maybe_unused]] const LossSum sum, state_->run(batch, 1, false, losses, {}));
  return losses;
}

void TrainableModel::zero_gradients() {
  for (const Parameter& parameter : state_->parameters.parameters) {
    state_->backend->fill_zero(parameter.grad.raw(), parameter.grad.numel() * dtype_bytes(DType::kF32));
  }
}

ParameterSet& TrainableModel::parameters() {
  return state_->parameters;
}
const std::vector<FrozenTensor>& TrainableModel::frozen() const {
  return state_->frozen;
}
const model::ModelConfig& TrainableModel::config() const {
  return state_->config;
}
const model::ModelWeights& TrainableModel::weights() const {
  return state_->weights;
}
const model::LoraAdapter* TrainableModel::adapter() const {
  return state_->adapter ? &*state_->adapter : nullptr;
}
ops::Backend& TrainableModel::backend() {
  return *state_->backend;
}
Recomputation& TrainableModel::recomputation() {
  return state_->recomputation;
}
int64_t TrainableModel::workspace_bytes() const {
  return state_->workspace.num_bytes();
}

}  // namespace nemoforge::train
