#include "train/trainable_model.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <numeric>
#include <optional>
#include <utility>

#include "base/integers.h"
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
  TensorView gradient_slab;  // all gradients
  int64_t slab_used = 0;     // elements
  Recomputation recomputation;
  double lora_dropout = 0;
  uint64_t seed = 0;
  DType dtype = DType::kF32;

  // f32 memory of this shape.
  Result<TensorView> allocate(const Shape& shape) {
    NF_TRY(Buffer buffer, backend->allocate(shape.numel() * dtype_bytes(DType::kF32)));
    const TensorView view(buffer.data(), DType::kF32, shape);
    buffers.push_back(std::move(buffer));
    return view;
  }

  // Gradients stand in one piece of memory, which is cleared at once.
  static int64_t slab_elements(int64_t num_elements) { return round_up<int64_t>(num_elements, 64); }
  Status reserve_gradients(int64_t num_elements) {
    NF_TRY(gradient_slab, allocate({num_elements}));
    return {};
  }
  TensorView take_gradient(const Shape& shape) {
    const TensorView view(gradient_slab.data<float>() + slab_used, shape);
    slab_used += slab_elements(shape.numel());
    NF_CHECK(slab_used <= gradient_slab.numel()) << slab_used;
    return view;
  }

  // `used`: what is computed with, which is the value itself or its bf16 copy.
  void add_parameter(const std::string& name, ModuleClass module_class, const TensorView& value,
                     const TensorView& used, const Shape& file_shape, bool weight_decay) {
    const TensorView grad = take_gradient(file_shape);
    gradients.add(used, grad);
    const bool has_copy = used.raw() != value.raw();
    parameters.parameters.push_back({.name = name,
                                     .module_class = module_class,
                                     .value = value.reshape(file_shape),
                                     .grad = grad,
                                     .copy = has_copy ? used.reshape(file_shape) : TensorView(),
                                     .weight_decay = weight_decay});
  }

  // An f32 copy of a weight at `place`.
  TensorView copy_weight(const NamedWeight& weight, float* place) {
    const ConstTensorView stored = *weight.view;
    Tensor host = make_host_tensor(stored.dtype(), stored.shape());
    const int64_t stored_bytes = stored.numel() * dtype_bytes(stored.dtype());
    backend->synchronize();
    backend->download(stored.raw(), host.view().raw(), stored_bytes);
    Tensor converted = make_host_tensor(DType::kF32, stored.shape());
    model::convert_elements(host.view(), converted.view());
    const TensorView value(place, stored.shape());
    backend->upload(converted.view().raw(), value.raw(), value.numel() * dtype_bytes(DType::kF32));
    return value;
  }

  // Takes over all weights: their values, what is computed with, and their gradients each stand in one piece
  // of memory, in the order of the layers, so that a projection's experts lie at one stride from each other.
  Status take_over_weights() {
    int64_t num_elements = 0;
    for_each_weight(weights,
                    [&](const NamedWeight& weight) { num_elements += slab_elements(weight.view->numel()); });
    NF_TRY(const TensorView values, allocate({num_elements}));
    TensorView copies;
    if (dtype != DType::kF32) {
      NF_TRY(Buffer buffer, backend->allocate(num_elements * dtype_bytes(dtype)));
      copies = TensorView(buffer.data(), dtype, {num_elements});
      buffers.push_back(std::move(buffer));
    }
    NF_RETURN_IF_ERROR(reserve_gradients(num_elements));
    int64_t used = 0;
    for_each_weight(weights, [&](const NamedWeight& weight) {
      const int64_t count = slab_elements(weight.view->numel());
      const TensorView value = copy_weight(weight, values.data<float>() + used);
      const bool has_copy = dtype != DType::kF32 && is_matrix(weight) && !is_router(weight);
      const TensorView place = has_copy ? copies.rows(used, value.numel()).reshape(value.shape()) : value;
      *weight.view = place;
      used += count;
      if (is_always_frozen(weight)) {
        frozen_values.emplace_back(weight.name, value);
        frozen.push_back({weight.name, ConstTensorView(value).reshape(weight.file_shape)});
        return;
      }
      add_parameter(weight.name, weight.module_class, value, place, weight.file_shape, weight.weight_decay);
    });
    write_copies();
    return {};
  }
  // The norms, biases, filters and state-space parameters are vectors, or have one in-channel.
  static bool is_matrix(const NamedWeight& weight) {
    return weight.file_shape.rank() == 2 && weight.view->shape().rank() == 2;
  }
  static bool is_router(const NamedWeight& weight) { return weight.module_class == ModuleClass::kRouter; }

  // copy <- value, as rows of a table.
  void write_copies() {
    int64_t max_rows = 0;
    for (const Parameter& parameter : parameters.parameters) {
      if (parameter.copy) max_rows = std::max(max_rows, parameter.value.size(0));
    }
    if (max_rows == 0) return;
    std::vector<int32_t> host_ids(static_cast<size_t>(max_rows));
    std::iota(host_ids.begin(), host_ids.end(), 0);
    const model::Workspace::Scope scope(workspace);
    const TensorView ids = workspace.take(DType::kI32, {max_rows});
    backend->upload(host_ids.data(), ids.raw(), max_rows * dtype_bytes(DType::kI32));
    for (const Parameter& parameter : parameters.parameters) {
      if (!parameter.copy) continue;
      backend->embedding(
          {.ids = ids.rows(0, parameter.value.size(0)), .table = parameter.value, .out = parameter.copy});
    }
  }

  Result<LossSum> run(const TrainBatch& batch, float scale, bool wants_gradients,
                      std::span<float> token_losses, const LogitsTap& tap) {
    NF_RETURN_IF_ERROR(check_batch(batch, config));
    std::optional<LoraDropout> dropout;
    if (wants_gradients && lora_dropout > 0) dropout.emplace(*training, lora_dropout, seed, batch.pass_idx);
    const PassArgs args{.backend = *backend,
                        .training = *training,
                        .config = config,
                        .dtype = dtype,
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

Status check_dtype(DType dtype, const ops::Backend& backend) {
  if (dtype == DType::kF32 || (dtype == DType::kBF16 && !backend.shares_host_memory())) return {};
  return error(ErrorCode::kUnsupported,
               "training in " + std::string(dtype_name(dtype)) + " does not run on the " +
                   std::string(backend.name()) + " backend",
               "train in fp32, or with --device cuda");
}

}  // namespace

Result<TrainableModel> TrainableModel::full(const model::ModelConfig& config, model::Weights weights,
                                            ops::Backend& backend, DType dtype) {
  NF_RETURN_IF_ERROR(check_dtype(dtype, backend));
  auto state = std::make_unique<State>(config, std::move(weights), backend);
  state->dtype = dtype;
  NF_TRY(state->training, ops::make_training_backend(backend));
  NF_RETURN_IF_ERROR(state->take_over_weights());
  state->frozen_weights.reset();
  TrainableModel result(std::move(state));
  result.zero_gradients();
  return result;
}

Result<TrainableModel> TrainableModel::initial(const model::ModelConfig& config,
                                               const Initialisation& initialisation, uint64_t seed,
                                               ops::Backend& backend, DType dtype) {
  // Weights of the right shapes, whose values are then replaced.
  NF_TRY(model::Weights shaped, model::Weights::random(config, DType::kF32, seed, backend));
  NF_TRY(TrainableModel result, full(config, std::move(shaped), backend, dtype));
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
  result.values_changed();
  return result;
}

Result<TrainableModel> TrainableModel::lora(const model::ModelConfig& config, model::Weights weights,
                                            const LoraOptions& options, ops::Backend& backend, DType dtype) {
  NF_RETURN_IF_ERROR(check_dtype(dtype, backend));
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
  state->dtype = dtype;
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
  int64_t num_elements = 0;
  for (const model::TrainableLoraPair& pair : pairs) {
    num_elements += State::slab_elements(pair.a.numel()) + State::slab_elements(pair.b.numel());
  }
  NF_RETURN_IF_ERROR(state->reserve_gradients(num_elements));
  for (size_t i = 0; i < pairs.size(); ++i) {
    const model::TrainableLoraPair& pair = pairs[i];
    initialise(pair, options.seed, i, backend);
    const std::string name = "base_model.model." + pair.module;
    const ModuleClass module_class = module_class_of(pair.target);
    state->add_parameter(name + ".lora_A.weight", module_class, pair.a, pair.a, pair.a.shape(), true);
    state->add_parameter(name + ".lora_B.weight", module_class, pair.b, pair.b, pair.b.shape(), true);
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
  const TensorView& slab = state_->gradient_slab;
  state_->backend->fill_zero(slab.raw(), slab.numel() * dtype_bytes(DType::kF32));
}

void TrainableModel::values_changed() {
  state_->write_copies();
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
DType TrainableModel::dtype() const {
  return state_->dtype;
}
int64_t TrainableModel::workspace_bytes() const {
  return state_->workspace.num_bytes();
}

}  // namespace nemoforge::train
