#include "model/layers/moe.h"

#include <algorithm>
#include <vector>

namespace nemoforge::model {
namespace {

void route(const ForwardContext& context, const MoeWeights& weights, const ConstTensorView& x,
           MoeActivations& out) {
  const ModelConfig& config = context.config;
  const int64_t top_k = config.num_experts_per_tok;
  out.router_logits = context.workspace.take(DType::kF32, {context.num_rows(), config.n_routed_experts});
  context.backend.linear({.x = x,
                          .weight = &weights.gate,
                          .num_decode_rows = context.rows.num_decode,
                          .out = out.router_logits});
  out.expert_ids = context.workspace.take(DType::kI32, {context.num_rows(), top_k});
  out.expert_weights = context.workspace.take(DType::kF32, {context.num_rows(), top_k});
  context.backend.router({.logits = out.router_logits,
                          .correction_bias = weights.correction_bias,
                          .num_groups = config.n_group,
                          .top_k_groups = config.topk_group,
                          .top_k = top_k,
                          .normalize = config.norm_topk_prob,
                          .scale = config.routed_scaling_factor,
                          .expert_ids = out.expert_ids,
                          .expert_weights = out.expert_weights});
}

void dispatch(const ForwardContext& context, const ConstTensorView& x, MoeActivations& out) {
  const ModelConfig& config = context.config;
  const int64_t num_sorted = context.num_rows() * config.num_experts_per_tok;
  out.offsets = context.workspace.take(DType::kI32, {config.n_routed_experts + 1});
  out.row_tokens = context.workspace.take(DType::kI32, {num_sorted});
  out.row_of = context.workspace.take(DType::kI32, {context.num_rows(), config.num_experts_per_tok});
  out.dispatched = context.workspace.take(context.dtype, {num_sorted, config.hidden_size});
  context.backend.moe_dispatch({.x = x,
                                .expert_ids = out.expert_ids,
                                .num_experts = config.n_routed_experts,
                                .offsets = out.offsets,
                                .row_tokens = out.row_tokens,
                                .row_of = out.row_of,
                                .out = out.dispatched});
}

// The sorted rows by the expert and the adapter that they pass through. Built on the host, once a layer and
// only where a batch has adapters at all.
struct SortedRun {
  int64_t begin = 0;
  int64_t end = 0;
  size_t expert = 0;
  const LoraAdapter* adapter = nullptr;
};

const LoraAdapter* adapter_of(const ForwardContext& context, int64_t row) {
  const auto range =
      std::upper_bound(context.adapters.begin(), context.adapters.end(), row,
                       [](int64_t wanted, const AdapterRows& rows) { return wanted < rows.end; });
  return range != context.adapters.end() && row >= range->begin ? range->adapter : nullptr;
}

// The adapter that every row passes through; null where there is none, or more than that.
const LoraAdapter* adapter_of_all_rows(const ForwardContext& context) {
  if (context.adapters.size() != 1) return nullptr;
  const AdapterRows& rows = context.adapters[0];
  return rows.begin == 0 && rows.end == context.num_rows() ? rows.adapter : nullptr;
}

// A run for each expert, whose rows the offsets tell; empty unless the adapter has a pair for every expert.
std::vector<ops::LoraRun> runs_of_experts(const LoraAdapter& adapter, int64_t layer_idx, LoraTarget target) {
  std::vector<ops::LoraRun> runs;
  for (const ops::LoraWeight& pair : adapter.find_experts(layer_idx, target)) {
    if (!pair.a) return {};
    runs.push_back({0, 0, &pair});
  }
  return runs;
}

// Whether the rows of each expert's adapter pair can be told by the offsets alone, which stay on the device.
bool offsets_tell_runs(const ForwardContext& context) {
  const LoraAdapter* adapter = adapter_of_all_rows(context);
  if (adapter == nullptr) return false;
  for (const LoraTarget target : {LoraTarget::kExpertUpProj, LoraTarget::kExpertDownProj}) {
    const bool has_pairs = !adapter->find_experts(context.layer_idx, target).empty();
    if (has_pairs && runs_of_experts(*adapter, context.layer_idx, target).empty()) return false;
  }
  return true;
}

std::vector<SortedRun> sorted_runs(const ForwardContext& context, const MoeActivations& activations) {
  std::vector<SortedRun> runs;
  if (context.adapters.empty() || offsets_tell_runs(context)) return runs;
  const auto to_host = [&](const TensorView& tensor) {
    std::vector<int32_t> values(static_cast<size_t>(tensor.numel()));
    context.backend.download(tensor.raw(), values.data(), tensor.numel() * dtype_bytes(DType::kI32));
    return values;
  };
  context.backend.synchronize();
  const std::vector<int32_t> offsets = to_host(activations.offsets);
  const std::vector<int32_t> row_tokens = to_host(activations.row_tokens);
  for (size_t expert = 0; expert + 1 < offsets.size(); ++expert) {
    for (int64_t row = offsets[expert]; row < offsets[expert + 1]; ++row) {
      const LoraAdapter* adapter = adapter_of(context, row_tokens[static_cast<size_t>(row)]);
      if (adapter == nullptr) continue;
      const bool continues = !runs.empty() && runs.back().end == row && runs.back().expert == expert &&
                             runs.back().adapter == adapter;
      if (!continues) runs.push_back({row, row, expert, adapter});
      runs.back().end = row + 1;
    }
  }
  return runs;
}

TensorView grouped_linear(const ForwardContext& context, const ConstTensorView& x,
                          const std::vector<ops::LinearWeight>& weights, const TensorView& offsets,
                          const std::vector<SortedRun>& adapter_runs, LoraTarget target) {
  const TensorView out = context.workspace.take(context.dtype, {x.size(0), weights[0].out_features()});
  context.backend.grouped_linear({.x = x, .offsets = offsets, .weights = weights, .out = out});
  if (offsets_tell_runs(context)) {
    const auto runs = runs_of_experts(*context.adapters[0].adapter, context.layer_idx, target);
    add_adapters(context, x, target, runs, offsets, out);
    return out;
  }
  std::vector<ops::LoraRun> runs;
  for (const SortedRun& run : adapter_runs) {
    const auto& pairs = run.adapter->find_experts(context.layer_idx, target);
    if (pairs.empty() || !pairs[run.expert].a) continue;
    runs.push_back({run.begin, run.end, &pairs[run.expert]});
  }
  add_adapters(context, x, target, runs, {}, out);
  return out;
}

void routed_experts(const ForwardContext& context, const MoeWeights& weights, const ConstTensorView& x,
                    MoeActivations& out) {
  route(context, weights, x, out);
  dispatch(context, x, out);
  const std::vector<SortedRun> runs = sorted_runs(context, out);
  out.up =
      grouped_linear(context, out.dispatched, weights.up_proj, out.offsets, runs, LoraTarget::kExpertUpProj);
  out.activated = context.workspace.take(context.dtype, out.up.shape());
  context.backend.relu2({.x = out.up, .out = out.activated});
  out.expert_out = grouped_linear(context, out.activated, weights.down_proj, out.offsets, runs,
                                  LoraTarget::kExpertDownProj);
}

}  // namespace

MoeActivations moe(const ForwardContext& context, const MoeWeights& weights, const ConstTensorView& x) {
  MoeActivations out;
  // The choice of experts is a chain of small kernels that the shared expert's weights can be read beside.
  context.backend.concurrently([&] { routed_experts(context, weights, x, out); },
                               [&] { out.shared = shared_expert(context, weights.shared_experts, x); });
  out.out = context.take_f32(context.config.hidden_size);
  context.backend.moe_combine({.expert_out = out.expert_out,
                               .row_of = out.row_of,
                               .expert_weights = out.expert_weights,
                               .shared = out.shared.out,
                               .out = out.out});
  return out;
}

}  // namespace nemoforge::model
