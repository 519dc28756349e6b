// Every backward op: the reference against finite differences of the reference's forward op, and the CPU
// against the reference.
#include "ops/training_backend.h"

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "ops/op_test_support.h"
#include "ops/reference_backend.h"

namespace nemoforge::ops {
namespace {

using Tensors = std::vector<Tensor>;

// An op with its inputs. Gradients are in the order of the inputs that have one.
struct Problem {
  std::string name;
  Tensors inputs;                                            // f32, or of the placement's type
  std::function<Tensor(Backend&, Tensors& inputs)> forward;  // to a new output
  std::function<void(TrainingBackend&, Tensors& inputs, const TensorView& d_out, Tensors& gradients)>
      backward;
  std::vector<size_t> f32_gradients = {};  // inputs of the placement's type whose gradient is f32: weights
  std::vector<size_t> t_gradients = {};    // inputs of f32 whose gradient is of the placement's type
  bool d_out_is_activation = true;
};

Tensor new_tensor(Backend& memory, DType dtype, const Shape& shape) {
  return {memory.allocate(shape.numel() * dtype_bytes(dtype)).value(), dtype, shape};
}

Tensor placed(Backend& memory, const Tensor& host) {
  Tensor tensor = new_tensor(memory, host.view().dtype(), host.view().shape());
  memory.upload(host.view().raw(), tensor.view().raw(),
                host.view().numel() * dtype_bytes(host.view().dtype()));
  return tensor;
}

Tensor downloaded(Backend& memory, const ConstTensorView& view) {
  Tensor host = make_host_tensor(view.dtype(), view.shape());
  memory.synchronize();
  memory.download(view.raw(), host.view().raw(), view.numel() * dtype_bytes(view.dtype()));
  return host;
}

Tensor zeros(Backend& memory, DType dtype, const Shape& shape) {
  Tensor tensor = new_tensor(memory, dtype, shape);
  memory.fill_zero(tensor.view().raw(), shape.numel() * dtype_bytes(dtype));
  return tensor;
}
Tensor zeros_like(Backend& memory, const ConstTensorView& view) {
  return zeros(memory, view.dtype(), view.shape());
}
Tensor zeros_like(const ConstTensorView& view) {
  Tensor tensor = make_host_tensor(DType::kF32, view.shape());
  std::fill_n(tensor.view().data<float>(), view.numel(), 0.0f);
  return tensor;
}

Tensor index_tensor(const std::vector<int32_t>& values, const Shape& shape) {
  Tensor tensor = make_host_tensor(DType::kI32, shape);
  std::copy(values.begin(), values.end(), tensor.view().data<int32_t>());
  return tensor;
}

// Where a problem's tensors are, and as what. The values are the same everywhere, but that those of
// activations are rounded to bf16 where `rounds`.
struct Placement {
  Backend& memory;
  DType dtype = DType::kF32;  // of the activations
  bool rounds = false;

  // A parameter, or what is always f32.
  [[nodiscard]] Tensor operator()(const Tensor& host) const { return placed(memory, host); }
  // What the contracts call T.
  [[nodiscard]] Tensor activation(const Tensor& host) const {
    const ConstTensorView values = host.view().reshape({host.view().numel()});
    Tensor result = make_host_tensor(dtype, host.view().shape());
    const TensorView target = result.view().reshape({values.numel()});
    for (int64_t i = 0; i < values.numel(); ++i) {
      const double value = load_element(values, i);
      store_element(
          target, i, 0,
          rounds ? static_cast<double>(static_cast<float>(Bf16(static_cast<float>(value)))) : value);
    }
    return placed(memory, result);
  }
  [[nodiscard]] Tensor index(const std::vector<int32_t>& values, const Shape& shape) const {
    return placed(memory, index_tensor(values, shape));
  }
};

// Documents of these lengths, as rows.
struct Documents {
  Documents(const Placement& placement, const std::vector<int32_t>& lengths) {
    std::vector<int32_t> ends = {0};
    const auto count = static_cast<int64_t>(lengths.size());
    for (const int32_t length : lengths) {
      ends.push_back(ends.back() + length);
      rows.max_query_len = std::max<int64_t>(rows.max_query_len, length);
    }
    cu_seqlens = placement.index(ends, {count + 1});
    context_lens = placement.index(std::vector<int32_t>(lengths.size(), 0), {count});
    const int64_t max_blocks = rows.max_query_len;  // blocks of one position
    std::vector<int32_t> blocks;
    for (size_t document = 0; document < lengths.size(); ++document) {
      for (int32_t i = 0; i < max_blocks; ++i)
        blocks.push_back(i < lengths[document] ? ends[document] + i : 0);
    }
    block_tables = placement.index(blocks, {count, max_blocks});
    rows.num_tokens = ends.back();
    rows.num_sequences = count;
    rows.max_context_len = rows.max_query_len;
    rows.cu_seqlens = cu_seqlens.view();
    rows.context_lens = context_lens.view();
    rows.block_tables = block_tables.view();
  }
  Documents(const Documents&) = delete;
  Documents& operator=(const Documents&) = delete;

  Tensor cu_seqlens;
  Tensor context_lens;
  Tensor block_tables;
  RaggedRows rows;
};

Problem rms_norm_problem(const Placement& placement, Rng& rng, int64_t rows, int64_t size) {
  Problem problem{.name = "rms_norm", .inputs = {}, .forward = {}, .backward = {}};
  problem.inputs.push_back(placement(random_tensor(rng, DType::kF32, {rows, size})));
  problem.inputs.push_back(placement(random_tensor(rng, DType::kF32, {size})));
  problem.forward = [](Backend& backend, Tensors& in) {
    Tensor out = zeros_like(backend, in[0].view());
    backend.rms_norm({.x = in[0].view(), .weight = in[1].view(), .epsilon = 1e-3f, .out = out.view()});
    return out;
  };
  problem.backward = [](TrainingBackend& training, Tensors& in, const TensorView& d_out, Tensors& grads) {
    training.rms_norm_backward({.x = in[0].view(),
                                .weight = in[1].view(),
                                .epsilon = 1e-3f,
                                .d_out = d_out,
                                .d_x = grads[0].view(),
                                .d_weight = grads[1].view()});
  };
  return problem;
}

Problem gated_rms_norm_problem(const Placement& placement, Rng& rng, int64_t rows, int64_t channels,
                               int64_t groups) {
  Problem problem{.name = "gated_rms_norm", .inputs = {}, .forward = {}, .backward = {}};
  problem.t_gradients = {0};
  problem.inputs.push_back(placement(random_tensor(rng, DType::kF32, {rows, channels})));
  problem.inputs.push_back(placement.activation(random_tensor(rng, DType::kF32, {rows, channels})));
  problem.inputs.push_back(placement(random_tensor(rng, DType::kF32, {channels})));
  problem.forward = [groups](Backend& backend, Tensors& in) {
    Tensor out = zeros_like(backend, in[0].view());
    backend.gated_rms_norm({.y = in[0].view(),
                            .z = in[1].view(),
                            .weight = in[2].view(),
                            .num_groups = groups,
                            .epsilon = 1e-2f,
                            .out = out.view()});
    return out;
  };
  problem.backward = [groups](TrainingBackend& training, Tensors& in, const TensorView& d_out,
                              Tensors& grads) {
    training.gated_rms_norm_backward({.y = in[0].view(),
                                      .z = in[1].view(),
                                      .weight = in[2].view(),
                                      .num_groups = groups,
                                      .epsilon = 1e-2f,
                                      .d_out = d_out,
                                      .d_y = grads[0].view(),
                                      .d_z = grads[1].view(),
                                      .d_weight = grads[2].view()});
  };
  return problem;
}

Problem linear_problem(const Placement& placement, Rng& rng, int64_t rows, int64_t in_features,
                       int64_t out_features) {
  Problem problem{.name = "linear", .inputs = {}, .forward = {}, .backward = {}};
  const double scale = 1 / std::sqrt(static_cast<double>(in_features));
  problem.inputs.push_back(placement.activation(random_tensor(rng, DType::kF32, {rows, in_features})));
  problem.inputs.push_back(
      placement.activation(random_tensor(rng, DType::kF32, {out_features, in_features}, scale)));
  problem.f32_gradients = {1};
  problem.inputs.push_back(placement(random_tensor(rng, DType::kF32, {out_features})));
  problem.forward = [=](Backend& backend, Tensors& in) {
    Tensor out = new_tensor(backend, in[0].view().dtype(), {rows, out_features});
    const LinearWeight weight{in[1].view(), in[2].view()};
    backend.linear({.x = in[0].view(), .weight = &weight, .num_decode_rows = 0, .out = out.view()});
    return out;
  };
  problem.backward = [](TrainingBackend& training, Tensors& in, const TensorView& d_out, Tensors& grads) {
    const LinearWeight weight{in[1].view(), in[2].view()};
    training.linear_backward({.x = in[0].view(),
                              .weight = &weight,
                              .d_out = d_out,
                              .d_x = grads[0].view(),
                              .d_weight = grads[1].view(),
                              .d_bias = grads[2].view()});
  };
  return problem;
}

// Three groups, of which the second is empty.
Problem grouped_linear_problem(const Placement& placement, Rng& rng, int32_t rows, int64_t in_features,
                               int64_t out_features) {
  Problem problem{.name = "grouped_linear", .inputs = {}, .forward = {}, .backward = {}};
  const double scale = 1 / std::sqrt(static_cast<double>(in_features));
  problem.inputs.push_back(placement.activation(random_tensor(rng, DType::kF32, {rows, in_features})));
  // One behind another, as backends want the weights of a grouped product.
  const auto stack = std::make_shared<Tensor>(
      placement.activation(random_tensor(rng, DType::kF32, {3 * out_features, in_features}, scale)));
  for (int64_t group = 0; group < 3; ++group) {
    const TensorView rows = stack->view().rows(group * out_features, out_features);
    problem.inputs.emplace_back(Buffer(rows.raw(), 0, [stack](void*) {}), rows.dtype(), rows.shape());
    problem.f32_gradients.push_back(static_cast<size_t>(group) + 1);
  }
  const auto offsets = std::make_shared<Tensor>(placement.index({0, rows / 3, rows / 3, rows}, {4}));
  const auto weights_of = [](Tensors& in) {
    return std::vector<LinearWeight>{{in[1].view(), {}}, {in[2].view(), {}}, {in[3].view(), {}}};
  };
  problem.forward = [=](Backend& backend, Tensors& in) {
    Tensor out = new_tensor(backend, in[0].view().dtype(), {rows, out_features});
    const auto weights = weights_of(in);
    backend.grouped_linear(
        {.x = in[0].view(), .offsets = offsets->view(), .weights = weights, .out = out.view()});
    return out;
  };
  problem.backward = [=](TrainingBackend& training, Tensors& in, const TensorView& d_out, Tensors& grads) {
    const auto weights = weights_of(in);
    const std::vector<TensorView> d_weights = {grads[1].view(), grads[2].view(), grads[3].view()};
    training.grouped_linear_backward({.x = in[0].view(),
                                      .offsets = offsets->view(),
                                      .weights = weights,
                                      .d_out = d_out,
                                      .d_x = grads[0].view(),
                                      .d_weights = d_weights});
  };
  return problem;
}

// Two runs with pairs of different ranks, and rows outside both.
Problem lora_problem(const Placement& placement, Rng& rng, int64_t rows, int64_t in_features,
                     int64_t out_features, const std::vector<int64_t>& ranks = {3, 5}) {
  Problem problem{.name = "lora", .inputs = {}, .forward = {}, .backward = {}};
  problem.inputs.push_back(placement.activation(random_tensor(rng, DType::kF32, {rows, in_features})));
  for (const int64_t rank : ranks) {
    problem.inputs.push_back(placement(random_tensor(rng, DType::kF32, {rank, in_features}, 0.3)));
    problem.inputs.push_back(placement(random_tensor(rng, DType::kF32, {out_features, rank}, 0.3)));
  }
  problem.forward = [=](Backend& backend, Tensors& in) {
    Tensor out = zeros(backend, in[0].view().dtype(), {rows, out_features});
    const LoraWeight first{in[1].view(), in[2].view(), 0.5f};
    const LoraWeight second{in[3].view(), in[4].view(), 2};
    const std::vector<LoraRun> runs = {{0, rows / 3, &first}, {rows / 2, rows, &second}};
    backend.lora_add({.x = in[0].view(), .runs = runs, .out = out.view()});
    return out;
  };
  problem.backward = [=](TrainingBackend& training, Tensors& in, const TensorView& d_out, Tensors& grads) {
    const LoraWeight first{in[1].view(), in[2].view(), 0.5f};
    const LoraWeight second{in[3].view(), in[4].view(), 2};
    const std::vector<LoraBackwardRun> runs = {{0, rows / 3, &first, grads[1].view(), grads[2].view()},
                                               {rows / 2, rows, &second, grads[3].view(), grads[4].view()}};
    training.lora_backward({.x = in[0].view(), .runs = runs, .d_out = d_out, .d_x = grads[0].view()});
  };
  return problem;
}

Problem relu2_problem(const Placement& placement, Rng& rng, int64_t rows, int64_t size) {
  Problem problem{.name = "relu2", .inputs = {}, .forward = {}, .backward = {}};
  Tensor inputs = random_tensor(rng, DType::kF32, {rows, size});
  // Away from the kink, where a difference quotient is none of the derivative's.
  for (int64_t i = 0; i < rows * size; ++i) {
    float& x = inputs.view().data<float>()[i];
    x += x < 0 ? -0.2f : 0.2f;
  }
  problem.inputs.push_back(placement.activation(inputs));
  problem.forward = [](Backend& backend, Tensors& in) {
    Tensor out = zeros_like(backend, in[0].view());
    backend.relu2({in[0].view(), out.view()});
    return out;
  };
  problem.backward = [](TrainingBackend& training, Tensors& in, const TensorView& d_out, Tensors& grads) {
    training.relu2_backward({.x = in[0].view(), .d_out = d_out, .d_x = grads[0].view()});
  };
  return problem;
}

// Not a backend's op: the gradient is the same expression of the gradient of the output.
Problem dropout_problem(const Placement& placement, Rng& rng, int64_t rows, int64_t size) {
  Problem problem{.name = "dropout", .inputs = {}, .forward = {}, .backward = {}};
  problem.inputs.push_back(placement.activation(random_tensor(rng, DType::kF32, {rows, size})));
  const DropoutMask mask{.probability = 0.3, .seed = 5, .stream = uint64_t{7} << 40};
  problem.forward = [=](Backend& backend, Tensors& in) {
    Tensor out = zeros_like(backend, in[0].view());
    make_training_backend(backend).value()->dropout({.x = in[0].view(), .mask = mask, .out = out.view()});
    return out;
  };
  problem.backward = [=](TrainingBackend& training, Tensors&, const TensorView& d_out, Tensors& grads) {
    training.dropout({.x = d_out, .mask = mask, .out = grads[0].view()});
  };
  return problem;
}

Problem embedding_problem(const Placement& placement, Rng& rng, int64_t rows, int64_t num_embeddings,
                          int64_t size) {
  Problem problem{.name = "embedding", .inputs = {}, .forward = {}, .backward = {}};
  problem.d_out_is_activation = false;
  problem.inputs.push_back(placement(random_tensor(rng, DType::kF32, {num_embeddings, size})));
  std::vector<int32_t> values;
  for (int64_t i = 0; i < rows; ++i) {
    values.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(num_embeddings))));
  }
  const auto ids = std::make_shared<Tensor>(placement.index(values, {rows}));
  problem.forward = [=](Backend& backend, Tensors& in) {
    Tensor out = new_tensor(backend, in[0].view().dtype(), {rows, size});
    backend.embedding({.ids = ids->view(), .table = in[0].view(), .out = out.view()});
    return out;
  };
  problem.backward = [=](TrainingBackend& training, Tensors&, const TensorView& d_out, Tensors& grads) {
    training.embedding_backward({.ids = ids->view(), .d_out = d_out, .d_table = grads[0].view()});
  };
  return problem;
}

Problem causal_conv1d_problem(const Placement& placement, Rng& rng, const std::vector<int32_t>& lengths,
                              int64_t channels, int64_t taps) {
  Problem problem{.name = "causal_conv1d", .inputs = {}, .forward = {}, .backward = {}};
  const auto documents = std::make_shared<Documents>(placement, lengths);
  problem.inputs.push_back(
      placement.activation(random_tensor(rng, DType::kF32, {documents->rows.num_tokens, channels})));
  problem.inputs.push_back(placement(random_tensor(rng, DType::kF32, {channels, taps}, 0.5)));
  problem.inputs.push_back(placement(random_tensor(rng, DType::kF32, {channels})));
  problem.forward = [=](Backend& backend, Tensors& in) {
    Tensor out = zeros_like(backend, in[0].view());
    backend.causal_conv1d({.rows = &documents->rows,
                           .x = in[0].view(),
                           .weight = in[1].view(),
                           .bias = in[2].view(),
                           .conv_state = {},
                           .out = out.view()});
    return out;
  };
  problem.backward = [=](TrainingBackend& training, Tensors& in, const TensorView& d_out, Tensors& grads) {
    training.causal_conv1d_backward({.rows = &documents->rows,
                                     .x = in[0].view(),
                                     .weight = in[1].view(),
                                     .bias = in[2].view(),
                                     .d_out = d_out,
                                     .d_x = grads[0].view(),
                                     .d_weight = grads[1].view(),
                                     .d_bias = grads[2].view()});
  };
  return problem;
}

Problem ssd_scan_problem(const Placement& placement, Rng& rng, const std::vector<int32_t>& lengths,
                         int64_t heads, int64_t head_dim, int64_t groups, int64_t state_size) {
  Problem problem{.name = "ssd_scan", .inputs = {}, .forward = {}, .backward = {}};
  const auto documents = std::make_shared<Documents>(placement, lengths);
  const int64_t rows = documents->rows.num_tokens;
  problem.inputs.push_back(placement.activation(random_tensor(rng, DType::kF32, {rows, heads * head_dim})));
  problem.inputs.push_back(
      placement.activation(random_tensor(rng, DType::kF32, {rows, groups * state_size}, 0.5)));
  problem.inputs.push_back(
      placement.activation(random_tensor(rng, DType::kF32, {rows, groups * state_size}, 0.5)));
  problem.inputs.push_back(placement.activation(random_tensor(rng, DType::kF32, {rows, heads}, 0.5, -1)));
  for (int i = 0; i < 3; ++i)
    problem.inputs.push_back(placement(random_tensor(rng, DType::kF32, {heads}, 0.5)));
  problem.forward = [=](Backend& backend, Tensors& in) {
    Tensor out = zeros_like(backend, in[0].view());
    backend.ssd_scan({.rows = &documents->rows,
                      .x = in[0].view(),
                      .b = in[1].view(),
                      .c = in[2].view(),
                      .dt_raw = in[3].view(),
                      .a_log = in[4].view(),
                      .d = in[5].view(),
                      .dt_bias = in[6].view(),
                      .num_heads = heads,
                      .head_dim = head_dim,
                      .num_groups = groups,
                      .state_size = state_size,
                      .chunk_size = 16,
                      .ssm_state = {},
                      .y = out.view()});
    return out;
  };
  problem.backward = [=](TrainingBackend& training, Tensors& in, const TensorView& d_out, Tensors& grads) {
    training.ssd_scan_backward({.rows = &documents->rows,
                                .x = in[0].view(),
                                .b = in[1].view(),
                                .c = in[2].view(),
                                .dt_raw = in[3].view(),
                                .a_log = in[4].view(),
                                .d = in[5].view(),
                                .dt_bias = in[6].view(),
                                .num_heads = heads,
                                .head_dim = head_dim,
                                .num_groups = groups,
                                .state_size = state_size,
                                .d_y = d_out,
                                .d_x = grads[0].view(),
                                .d_b = grads[1].view(),
                                .d_c = grads[2].view(),
                                .d_dt_raw = grads[3].view(),
                                .d_a_log = grads[4].view(),
                                .d_d = grads[5].view(),
                                .d_dt_bias = grads[6].view()});
  };
  return problem;
}

Problem attention_problem(const Placement& placement, Rng& rng, const std::vector<int32_t>& lengths,
                          int64_t heads, int64_t kv_heads, int64_t head_dim) {
  Problem problem{.name = "attention", .inputs = {}, .forward = {}, .backward = {}};
  const auto documents = std::make_shared<Documents>(placement, lengths);
  const int64_t rows = documents->rows.num_tokens;
  const float scale = 1 / std::sqrt(static_cast<float>(head_dim));
  problem.inputs.push_back(placement.activation(random_tensor(rng, DType::kF32, {rows, heads * head_dim})));
  for (int i = 0; i < 2; ++i) {
    problem.inputs.push_back(
        placement.activation(random_tensor(rng, DType::kF32, {rows, kv_heads * head_dim})));
  }
  problem.forward = [=](Backend& backend, Tensors& in) {
    Tensor out = zeros_like(backend, in[0].view());
    Tensor k = new_tensor(backend, in[0].view().dtype(), {rows, 1, kv_heads * head_dim});
    Tensor v = new_tensor(backend, in[0].view().dtype(), {rows, 1, kv_heads * head_dim});
    const KvCacheView cache{k.view(), v.view()};
    backend.kv_cache_append({.rows = &documents->rows, .k = in[1].view(), .v = in[2].view(), .cache = cache});
    backend.attention({.rows = &documents->rows,
                       .q = in[0].view(),
                       .cache = cache,
                       .num_heads = heads,
                       .num_kv_heads = kv_heads,
                       .head_dim = head_dim,
                       .scale = scale,
                       .out = out.view()});
    return out;
  };
  problem.backward = [=](TrainingBackend& training, Tensors& in, const TensorView& d_out, Tensors& grads) {
    training.attention_backward({.rows = &documents->rows,
                                 .q = in[0].view(),
                                 .k = in[1].view(),
                                 .v = in[2].view(),
                                 .num_heads = heads,
                                 .num_kv_heads = kv_heads,
                                 .head_dim = head_dim,
                                 .scale = scale,
                                 .d_out = d_out,
                                 .d_q = grads[0].view(),
                                 .d_k = grads[1].view(),
                                 .d_v = grads[2].view()});
  };
  return problem;
}

// The logits are spread out, so that a small step changes no choice.
Problem router_problem(const Placement& placement, int64_t tokens, int64_t experts, int64_t top_k,
                       bool normalize) {
  Problem problem{
      .name = normalize ? "router" : "router, not normalised", .inputs = {}, .forward = {}, .backward = {}};
  Tensor logits = make_host_tensor(DType::kF32, {tokens, experts});
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t i = 0; i < experts; ++i) {
      logits.view().data<float>()[token * experts + i] =
          static_cast<float>((i * 5 + token) % experts) * (4.0f / static_cast<float>(experts)) - 2.0f;
    }
  }
  problem.inputs.push_back(placement(logits));
  problem.d_out_is_activation = false;
  const auto bias = std::make_shared<Tensor>(zeros(placement.memory, DType::kF32, {experts}));
  const auto ids = std::make_shared<Tensor>(new_tensor(placement.memory, DType::kI32, {tokens, top_k}));
  problem.forward = [=](Backend& backend, Tensors& in) {
    Tensor out = new_tensor(backend, in[0].view().dtype(), {tokens, top_k});
    backend.router({.logits = in[0].view(),
                    .correction_bias = bias->view(),
                    .num_groups = 1,
                    .top_k_groups = 1,
                    .top_k = top_k,
                    .normalize = normalize,
                    .scale = 2.5f,
                    .expert_ids = ids->view(),
                    .expert_weights = out.view()});
    return out;
  };
  problem.backward = [=](TrainingBackend& training, Tensors& in, const TensorView& d_out, Tensors& grads) {
    training.router_backward({.logits = in[0].view(),
                              .expert_ids = ids->view(),
                              .normalize = normalize,
                              .scale = 2.5f,
                              .d_expert_weights = d_out,
                              .d_logits = grads[0].view()});
  };
  return problem;
}

// Dispatch and combination together: out[t] = sum_k weights[t, k] * x[t], by way of the sorted rows.
Problem moe_problem(const Placement& placement, Rng& rng, int64_t tokens, int64_t experts, int64_t top_k,
                    int64_t size) {
  Problem problem{.name = "moe_dispatch and moe_combine", .inputs = {}, .forward = {}, .backward = {}};
  problem.inputs.push_back(placement.activation(random_tensor(rng, DType::kF32, {tokens, size})));
  problem.inputs.push_back(placement(random_tensor(rng, DType::kF32, {tokens, top_k})));
  struct Sorted {
    Tensor ids;
    Tensor offsets;
    Tensor row_tokens;
    Tensor row_of;
    Tensor rows;
  };
  std::vector<int32_t> ids;
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t k = 0; k < top_k; ++k) ids.push_back(static_cast<int32_t>((token * 3 + k) % experts));
  }
  const auto sorted = std::make_shared<Sorted>();
  sorted->ids = placement.index(ids, {tokens, top_k});
  sorted->offsets = new_tensor(placement.memory, DType::kI32, {experts + 1});
  sorted->row_tokens = new_tensor(placement.memory, DType::kI32, {tokens * top_k});
  sorted->row_of = new_tensor(placement.memory, DType::kI32, {tokens, top_k});
  sorted->rows = new_tensor(placement.memory, placement.dtype, {tokens * top_k, size});
  problem.forward = [=](Backend& backend, Tensors& in) {
    backend.moe_dispatch({.x = in[0].view(),
                          .expert_ids = sorted->ids.view(),
                          .num_experts = experts,
                          .offsets = sorted->offsets.view(),
                          .row_tokens = sorted->row_tokens.view(),
                          .row_of = sorted->row_of.view(),
                          .out = sorted->rows.view()});
    Tensor out = zeros_like(backend, in[0].view());
    backend.moe_combine({.expert_out = sorted->rows.view(),
                         .row_of = sorted->row_of.view(),
                         .expert_weights = in[1].view(),
                         .shared = {},
                         .out = out.view()});
    return out;
  };
  problem.backward = [=, &memory = placement.memory](TrainingBackend& training, Tensors& in,
                                                     const TensorView& d_out, Tensors& grads) {
    Tensor d_rows = zeros_like(memory, sorted->rows.view());
    training.moe_combine_backward({.expert_out = sorted->rows.view(),
                                   .row_of = sorted->row_of.view(),
                                   .expert_weights = in[1].view(),
                                   .d_out = d_out,
                                   .d_expert_out = d_rows.view(),
                                   .d_expert_weights = grads[1].view()});
    training.moe_dispatch_backward(
        {.row_of = sorted->row_of.view(), .d_dispatched = d_rows.view(), .d_x = grads[0].view()});
  };
  return problem;
}

std::vector<Problem> small_problems(const Placement& placement) {
  Rng rng(7100);
  std::vector<Problem> problems;
  problems.push_back(rms_norm_problem(placement, rng, 3, 7));
  problems.push_back(gated_rms_norm_problem(placement, rng, 3, 10, 2));
  problems.push_back(linear_problem(placement, rng, 3, 5, 4));
  problems.push_back(grouped_linear_problem(placement, rng, 5, 4, 3));
  problems.push_back(lora_problem(placement, rng, 6, 5, 4));
  problems.push_back(relu2_problem(placement, rng, 3, 5));
  problems.push_back(dropout_problem(placement, rng, 3, 7));
  problems.push_back(embedding_problem(placement, rng, 6, 4, 3));
  problems.push_back(causal_conv1d_problem(placement, rng, {3, 1, 6}, 3, 4));
  problems.push_back(ssd_scan_problem(placement, rng, {4, 1, 5}, 4, 2, 2, 3));
  problems.push_back(attention_problem(placement, rng, {4, 1, 5}, 4, 2, 3));
  problems.push_back(router_problem(placement, 3, 8, 3, true));
  problems.push_back(router_problem(placement, 3, 8, 3, false));
  problems.push_back(moe_problem(placement, rng, 4, 5, 2, 3));
  return problems;
}

// Sizes around vectors, tiles, blocks and chunks.
std::vector<Problem> large_problems(const Placement& placement) {
  Rng rng(7200);
  std::vector<Problem> problems;
  problems.push_back(rms_norm_problem(placement, rng, 131, 67));
  problems.push_back(rms_norm_problem(placement, rng, 1, 1));
  problems.push_back(gated_rms_norm_problem(placement, rng, 67, 3 * 37, 3));
  problems.push_back(linear_problem(placement, rng, 1, 33, 31));
  problems.push_back(linear_problem(placement, rng, 131, 259, 67));
  problems.push_back(linear_problem(placement, rng, 259, 31, 300));
  problems.push_back(grouped_linear_problem(placement, rng, 140, 35, 70));
  problems.push_back(grouped_linear_problem(placement, rng, 500, 72, 136));
  problems.push_back(grouped_linear_problem(placement, rng, 700, 328, 192));
  problems.push_back(lora_problem(placement, rng, 133, 65, 130));
  problems.push_back(lora_problem(placement, rng, 1300, 64, 520));
  problems.push_back(lora_problem(placement, rng, 700, 200, 328, {16, 16}));
  problems.push_back(relu2_problem(placement, rng, 33, 67));
  problems.push_back(dropout_problem(placement, rng, 130, 67));
  problems.push_back(embedding_problem(placement, rng, 100, 20, 67));
  problems.push_back(causal_conv1d_problem(placement, rng, {1, 70, 2, 33}, 67, 4));
  problems.push_back(causal_conv1d_problem(placement, rng, {5, 9}, 130, 8));
  problems.push_back(causal_conv1d_problem(placement, rng, {5, 9}, 1, 2));
  problems.push_back(ssd_scan_problem(placement, rng, {64, 1, 65, 31}, 4, 5, 2, 17));
  problems.push_back(ssd_scan_problem(placement, rng, {130}, 2, 8, 1, 16));
  problems.push_back(attention_problem(placement, rng, {1, 33, 32, 70}, 6, 2, 19));
  problems.push_back(attention_problem(placement, rng, {40}, 2, 2, 32));
  problems.push_back(router_problem(placement, 70, 128, 6, true));
  problems.push_back(moe_problem(placement, rng, 65, 12, 3, 67));
  return problems;
}

// In the placement's memory.
Tensors gradients_of(Problem& problem, Backend& memory, TrainingBackend& training, const TensorView& d_out) {
  Tensors gradients;
  for (size_t i = 0; i < problem.inputs.size(); ++i) {
    const auto is_one_of = [i](const std::vector<size_t>& some) {
      return std::find(some.begin(), some.end(), i) != some.end();
    };
    const ConstTensorView input = problem.inputs[i].view();
    DType dtype = is_one_of(problem.f32_gradients) ? DType::kF32 : input.dtype();
    if (is_one_of(problem.t_gradients)) dtype = d_out.dtype();
    gradients.push_back(zeros(memory, dtype, input.shape()));
  }
  problem.backward(training, problem.inputs, d_out, gradients);
  return gradients;
}

// The gradient of the output to begin with.
Tensor d_out_of(const Placement& placement, const Problem& problem, const ConstTensorView& out, Rng& rng) {
  const Tensor values = random_tensor(rng, DType::kF32, out.shape());
  return problem.d_out_is_activation ? placement.activation(values) : placement(values);
}

double weighted_sum(const ConstTensorView& out, const ConstTensorView& weights) {
  double sum = 0;
  for (int64_t i = 0; i < out.numel(); ++i) {
    sum += static_cast<double>(out.data<float>()[i]) * static_cast<double>(weights.data<float>()[i]);
  }
  return sum;
}

// The fourth-order central quotient. Sums are in f64; inputs and outputs are rounded to f32, which with this
// step leaves some 2e-5.
constexpr float kStep = 1.0f / 32;
constexpr double kQuotientTolerance = 3e-4;

TEST(TrainingBackend, reference_agrees_with_finite_differences) {
  ReferenceBackend reference;
  const auto training = make_training_backend(reference).value();
  for (Problem& problem : small_problems({reference})) {
    SCOPED_TRACE(problem.name);
    Rng rng(7300);
    const Tensor out = problem.forward(reference, problem.inputs);
    Tensor d_out = random_tensor(rng, DType::kF32, out.view().shape());
    const Tensors gradients = gradients_of(problem, reference, *training, d_out.view());
    for (size_t input = 0; input < gradients.size(); ++input) {
      for (int64_t i = 0; i < gradients[input].view().numel(); ++i) {
        float& element = problem.inputs[input].view().data<float>()[i];
        const float value = element;
        const auto loss_at = [&](float offset) {
          element = value + offset;
          return weighted_sum(problem.forward(reference, problem.inputs).view(), d_out.view());
        };
        const double quotient =
            (8 * (loss_at(kStep) - loss_at(-kStep)) - (loss_at(2 * kStep) - loss_at(-2 * kStep))) /
            (12 * static_cast<double>(kStep));
        element = value;
        const auto gradient = static_cast<double>(gradients[input].view().data<float>()[i]);
        EXPECT_NEAR(gradient, quotient, kQuotientTolerance * (1 + std::abs(quotient)))
            << "element " << i << " of input " << input;
      }
    }
  }
}

std::vector<Problem> all_problems(const Placement& placement) {
  std::vector<Problem> problems = small_problems(placement);
  for (Problem& problem : large_problems(placement)) problems.push_back(std::move(problem));
  return problems;
}

double largest_magnitude(const ConstTensorView& view) {
  double largest = 0;
  for (int64_t row = 0; row < view.size(0); ++row) {
    for (int64_t i = 0; i < view.numel() / view.size(0); ++i) {
      largest = std::max(largest, std::abs(load_element(view, row, i)));
    }
  }
  return largest;
}

TEST(TrainingBackend, backends_match_the_reference_and_themselves) {
  ReferenceBackend reference;
  const auto training = make_training_backend(reference).value();
  for (const auto& backend : backends_under_test()) {
    SCOPED_TRACE(backend->name());
    const auto under_test = make_training_backend(*backend).value();
    const Placement there{*backend};
    std::vector<Problem> expected_problems = all_problems({reference});
    std::vector<Problem> problems = all_problems(there);
    for (size_t i = 0; i < problems.size(); ++i) {
      Problem& problem = problems[i];
      SCOPED_TRACE(problem.name + ", problem " + std::to_string(i));
      Rng rng(7400);
      Rng same_rng(7400);
      // What routing and sorting leave, too.
      const Tensor out = expected_problems[i].forward(reference, expected_problems[i].inputs);
      const Tensor out_there = problem.forward(*backend, problem.inputs);
      Tensor expected_d_out = d_out_of({reference}, problem, out.view(), rng);
      Tensor d_out = d_out_of(there, problem, out_there.view(), same_rng);
      const Tensors expected =
          gradients_of(expected_problems[i], reference, *training, expected_d_out.view());
      const Tensors actual = gradients_of(problem, *backend, *under_test, d_out.view());
      const Tensors again = gradients_of(problem, *backend, *under_test, d_out.view());
      for (size_t input = 0; input < expected.size(); ++input) {
        SCOPED_TRACE(input);
        // Sums of some hundred terms, on the scale of the largest gradient.
        const ConstTensorView view = expected[input].view();
        Tolerance tolerance = tolerance_of(DType::kF32, OpClass::kScan);
        tolerance.absolute *= std::max(1.0, largest_magnitude(view));
        const Tensor values = downloaded(*backend, actual[input].view());
        EXPECT_TRUE(all_close(values.view(), view, tolerance));
        EXPECT_TRUE(bits_equal(values.view(), downloaded(*backend, again[input].view()).view()));
      }
    }
  }
}

// The cosine of the angle between two tensors; 1 for two tensors of zeros.
double cosine(const ConstTensorView& a, const ConstTensorView& b) {
  double product = 0;
  double a_square = 0;
  double b_square = 0;
  for (int64_t row = 0; row < a.size(0); ++row) {
    for (int64_t i = 0; i < a.numel() / a.size(0); ++i) {
      product += load_element(a, row, i) * load_element(b, row, i);
      a_square += load_element(a, row, i) * load_element(a, row, i);
      b_square += load_element(b, row, i) * load_element(b, row, i);
    }
  }
  return a_square == 0 && b_square == 0 ? 1 : product / std::sqrt(a_square * b_square);
}

// Inputs that are exact in bf16, so that the differences are those of the sums and roundings on the way.
TEST(TrainingBackend, bf16_gradients_point_where_those_of_the_reference_do) {
  ReferenceBackend reference;
  const auto training = make_training_backend(reference).value();
  for (const auto& backend : backends_under_test()) {
    if (backend->shares_host_memory()) continue;  // the CPU trains in f32 alone
    const auto under_test = make_training_backend(*backend).value();
    const Placement here{reference, DType::kF32, true};
    const Placement there{*backend, DType::kBF16, true};
    std::vector<Problem> expected_problems = all_problems(here);
    std::vector<Problem> problems = all_problems(there);
    for (size_t i = 0; i < problems.size(); ++i) {
      Problem& problem = problems[i];
      SCOPED_TRACE(problem.name + ", problem " + std::to_string(i));
      Rng rng(7450);
      Rng same_rng(7450);
      const Tensor out = expected_problems[i].forward(reference, expected_problems[i].inputs);
      const Tensor out_there = problem.forward(*backend, problem.inputs);
      Tensor expected_d_out = d_out_of(here, problem, out.view(), rng);
      Tensor d_out = d_out_of(there, problem, out_there.view(), same_rng);
      const Tensors expected =
          gradients_of(expected_problems[i], reference, *training, expected_d_out.view());
      const Tensors actual = gradients_of(problem, *backend, *under_test, d_out.view());
      const Tensors again = gradients_of(problem, *backend, *under_test, d_out.view());
      for (size_t input = 0; input < expected.size(); ++input) {
        SCOPED_TRACE(input);
        const Tensor values = downloaded(*backend, actual[input].view());
        EXPECT_GT(cosine(values.view(), expected[input].view()), 0.9995);
        const double largest = largest_magnitude(expected[input].view());
        EXPECT_TRUE(all_close(values.view(), expected[input].view(), {0.03 * largest + 1e-4, 0.02}));
        EXPECT_TRUE(bits_equal(values.view(), downloaded(*backend, again[input].view()).view()));
      }
    }
  }
}

TEST(TrainingBackend, gradients_are_added_to_what_is_there) {
  std::vector<std::unique_ptr<Backend>> backends = backends_under_test();
  backends.push_back(make_reference_backend());
  for (const auto& backend : backends) {
    SCOPED_TRACE(backend->name());
    const auto training = make_training_backend(*backend).value();
    const Placement there{*backend};
    for (Problem& problem : small_problems(there)) {
      SCOPED_TRACE(problem.name);
      Rng rng(7500);
      const Tensor out = problem.forward(*backend, problem.inputs);
      Tensor d_out = d_out_of(there, problem, out.view(), rng);
      const Tensors once = gradients_of(problem, *backend, *training, d_out.view());
      Tensors twice = gradients_of(problem, *backend, *training, d_out.view());
      problem.backward(*training, problem.inputs, d_out.view(), twice);
      for (size_t input = 0; input < once.size(); ++input) {
        const Tensor first = downloaded(*backend, once[input].view());
        const Tensor second = downloaded(*backend, twice[input].view());
        for (int64_t i = 0; i < first.view().numel(); ++i) {
          const float value = first.view().data<float>()[i];
          EXPECT_NEAR(second.view().data<float>()[i], 2 * value, 1e-5f * (1 + std::abs(value)));
        }
      }
    }
  }
}

// A share p of the elements, in every column and row alike; those kept sum to the same on average.
TEST(TrainingBackend, dropout_drops_its_share) {
  const auto backend = make_cpu_backend();
  const auto training = make_training_backend(*backend).value();
  constexpr int64_t kSize = 512;
  Tensor x = make_host_tensor(DType::kF32, {kSize, kSize});
  std::fill_n(x.view().data<float>(), kSize * kSize, 1.0f);
  for (const double probability : {0.0, 0.1, 0.5}) {
    const DropoutMask mask{.probability = probability, .seed = 3, .stream = 4};
    Tensor out = zeros_like(x.view());
    training->dropout({.x = x.view(), .mask = mask, .out = out.view()});
    std::vector<double> row_sums(kSize);
    std::vector<double> column_sums(kSize);
    int64_t num_dropped = 0;
    for (int64_t i = 0; i < kSize * kSize; ++i) {
      const float value = out.view().data<float>()[i];
      row_sums[static_cast<size_t>(i / kSize)] += static_cast<double>(value) / kSize;
      column_sums[static_cast<size_t>(i % kSize)] += static_cast<double>(value) / kSize;
      num_dropped += value == 0 ? 1 : 0;
    }
    // Five standard deviations of the mean of that many draws.
    const double spread = 5 * std::sqrt(probability * (1 - probability));
    EXPECT_NEAR(static_cast<double>(num_dropped) / (kSize * kSize), probability, spread / kSize);
    for (const auto* sums : {&row_sums, &column_sums}) {
      for (const double sum : *sums) {
        EXPECT_NEAR(sum, 1, spread / (1 - probability) / std::sqrt(static_cast<double>(kSize)) + 1e-6);
      }
    }
    const DropoutMask other{.probability = probability, .seed = 3, .stream = 5};
    Tensor different = zeros_like(x.view());
    training->dropout({.x = x.view(), .mask = other, .out = different.view()});
    EXPECT_EQ(bits_equal(out.view(), different.view()), probability == 0);
  }
}

// Which elements are dropped does not depend on the backend, nor does a bit of the others.
TEST(TrainingBackend, dropout_has_the_same_bits_everywhere) {
  const auto cpu = make_cpu_backend();
  Rng rng(7550);
  const Tensor x = random_tensor(rng, DType::kF32, {37, 131});
  const Tensor before = random_tensor(rng, DType::kF32, {37, 131});
  const DropoutMask mask{.probability = 0.2, .seed = uint64_t{9} << 33, .stream = uint64_t{7} << 41};
  const auto run = [&](Backend& backend) {
    Tensor there = placed(backend, x);
    Tensor out = placed(backend, before);
    const auto training = make_training_backend(backend).value();
    training->dropout({.x = there.view(), .mask = mask, .out = out.view()});
    return downloaded(backend, out.view());
  };
  const Tensor expected = run(*cpu);
  for (const auto& backend : backends_under_test()) {
    SCOPED_TRACE(backend->name());
    EXPECT_TRUE(bits_equal(run(*backend).view(), expected.view()));
  }
}

TEST(TrainingBackend, linear_backward_reads_weights_of_16_bits) {
  ReferenceBackend reference;
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Rng rng(7600);
    const Tensor weight = random_tensor(rng, dtype, {37, 300}, 0.1);
    const Tensor x = random_tensor(rng, DType::kF32, {9, 300});
    const Tensor d_out = random_tensor(rng, DType::kF32, {9, 37});
    const auto run = [&](Backend& backend) {
      const Tensor weight_there = placed(backend, weight);
      const Tensor x_there = placed(backend, x);
      const Tensor d_out_there = placed(backend, d_out);
      const LinearWeight linear{weight_there.view(), {}};
      Tensor d_x = zeros(backend, DType::kF32, x.view().shape());
      const auto training = make_training_backend(backend).value();
      training->linear_backward({.x = x_there.view(),
                                 .weight = &linear,
                                 .d_out = d_out_there.view(),
                                 .d_x = d_x.view(),
                                 .d_weight = {},
                                 .d_bias = {}});
      return downloaded(backend, d_x.view());
    };
    const Tensor expected = run(reference);
    for (const auto& backend : backends_under_test()) {
      SCOPED_TRACE(backend->name());
      EXPECT_TRUE(all_close(run(*backend).view(), expected.view(), tolerance_of(DType::kF32, OpClass::kSum)));
    }
  }
}

// Runs whose rows are told by offsets in the backend's memory are those that say them themselves.
TEST(TrainingBackend, lora_runs_may_be_told_by_offsets) {
  for (const auto& backend : backends_under_test()) {
    SCOPED_TRACE(backend->name());
    const auto training = make_training_backend(*backend).value();
    Rng rng(7650);
    const std::vector<int32_t> ends = {0, 5, 5, 70, 100};
    const Tensor x = placed(*backend, random_tensor(rng, DType::kF32, {100, 40}));
    const Tensor d_out = placed(*backend, random_tensor(rng, DType::kF32, {100, 24}));
    const Tensor offsets = placed(*backend, index_tensor(ends, {5}));
    const Tensor a = placed(*backend, random_tensor(rng, DType::kF32, {4 * 3, 40}));
    const Tensor b = placed(*backend, random_tensor(rng, DType::kF32, {4 * 24, 3}));
    std::vector<LoraWeight> weights;
    for (int64_t i = 0; i < 4; ++i)
      weights.push_back({a.view().rows(3 * i, 3), b.view().rows(24 * i, 24), 2});
    const auto run = [&](bool by_offsets) {
      Tensors results;
      results.push_back(zeros(*backend, DType::kF32, {100, 24}));    // out
      results.push_back(zeros(*backend, DType::kF32, {100, 40}));    // d_x
      results.push_back(zeros(*backend, DType::kF32, {4 * 3, 40}));  // d_a
      results.push_back(zeros(*backend, DType::kF32, {4 * 24, 3}));  // d_b
      std::vector<LoraRun> runs;
      std::vector<LoraBackwardRun> backward_runs;
      for (size_t i = 0; i < 4; ++i) {
        const auto row = static_cast<int64_t>(i);
        const int64_t begin = by_offsets ? 0 : ends[i];
        const int64_t end = by_offsets ? 0 : ends[i + 1];
        runs.push_back({begin, end, &weights[i]});
        backward_runs.push_back({begin, end, &weights[i], results[2].view().rows(3 * row, 3),
                                 results[3].view().rows(24 * row, 24)});
      }
      const ConstTensorView told = by_offsets ? ConstTensorView(offsets.view()) : ConstTensorView();
      backend->lora_add({.x = x.view(), .runs = runs, .offsets = told, .out = results[0].view()});
      training->lora_backward({.x = x.view(),
                               .runs = backward_runs,
                               .offsets = told,
                               .d_out = d_out.view(),
                               .d_x = results[1].view()});
      for (Tensor& result : results) result = downloaded(*backend, result.view());
      return results;
    };
    const Tensors told = run(true);
    const Tensors said = run(false);
    for (size_t i = 0; i < told.size(); ++i) EXPECT_TRUE(bits_equal(told[i].view(), said[i].view())) << i;
  }
}

struct CrossEntropyResult {
  Tensor losses;
  Tensor d_logits;  // absent where not asked for
};

CrossEntropyResult run_cross_entropy(Backend& backend, const Tensor& logits, const Tensor& targets,
                                     bool wants_gradient) {
  const Tensor logits_there = placed(backend, logits);
  const Tensor targets_there = placed(backend, targets);
  Tensor losses = new_tensor(backend, DType::kF32, {logits.view().size(0)});
  Tensor d_logits = new_tensor(backend, DType::kF32, logits.view().shape());
  const auto training = make_training_backend(backend).value();
  training->cross_entropy({.logits = logits_there.view(),
                           .targets = targets_there.view(),
                           .scale = 0.5f,
                           .losses = losses.view(),
                           .d_logits = wants_gradient ? d_logits.view() : TensorView()});
  return {downloaded(backend, losses.view()),
          wants_gradient ? downloaded(backend, d_logits.view()) : Tensor()};
}

TEST(TrainingBackend, cross_entropy_and_its_gradient) {
  ReferenceBackend reference;
  Rng rng(7700);
  constexpr int64_t kRows = 5;
  constexpr int64_t kVocab = 133;
  const Tensor logits = random_tensor(rng, DType::kF32, {kRows, kVocab}, 3, 50);
  const Tensor targets = index_tensor({0, 132, 17, 64, 5}, {kRows});
  const auto [expected_losses, expected] = run_cross_entropy(reference, logits, targets, true);
  for (const auto& backend : backends_under_test()) {
    SCOPED_TRACE(backend->name());
    const auto [losses, actual] = run_cross_entropy(*backend, logits, targets, true);
    EXPECT_TRUE(all_close(losses.view(), expected_losses.view(), {1e-6, 1e-6}));
    EXPECT_TRUE(all_close(actual.view(), expected.view(), tolerance_of(DType::kF32, OpClass::kElementwise)));

    // The losses alone, and the gradient of one row: it sums to nothing, and follows the loss.
    const CrossEntropyResult alone = run_cross_entropy(*backend, logits, targets, false);
    EXPECT_TRUE(bits_equal(alone.losses.view(), losses.view()));
    for (int64_t row = 0; row < kRows; ++row) {
      double sum = 0;
      for (int64_t j = 0; j < kVocab; ++j) sum += load_element(actual.view(), row, j);
      EXPECT_NEAR(sum, 0, 1e-6);
      const int64_t target = targets.view().data<int32_t>()[row];
      const double probability = std::exp(-load_element(expected_losses.view(), row));
      EXPECT_NEAR(load_element(expected.view(), row, target), 0.5 * (probability - 1), 1e-6);
    }
  }
}

TEST(TrainingBackend, rejects_what_the_contracts_exclude) {
  ReferenceBackend reference;
  const auto cpu_backend = make_cpu_backend();
  Rng rng(7800);
  const Tensor x = random_tensor(rng, DType::kF32, {3, 4});
  const Tensor ids = index_tensor({0, 5, 1}, {3});
  for (Backend* backend : {static_cast<Backend*>(&reference), cpu_backend.get()}) {
    const auto training = make_training_backend(*backend).value();
    Tensor d_x = zeros_like(x.view());
    EXPECT_THROW(training->relu2_backward({.x = x.view(), .d_out = d_x.view(), .d_x = d_x.view()}),
                 InternalError);
    EXPECT_THROW(training->embedding_backward({.ids = ids.view(), .d_out = x.view(), .d_table = d_x.view()}),
                 InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
