#include "verify/operator_policy.h"

#include <algorithm>
#include <array>
#include <utility>

namespace nemoforge::verify {
namespace {

constexpr std::array kLayout = {"_conj",
                                "_local_scalar_dense",
                                "_reshape_alias",
                                "_reshape_copy",
                                "_to_copy",
                                "_unsafe_view",
                                "alias",
                                "arange",
                                "as_strided",
                                "as_strided_",
                                "cat",
                                "chunk",
                                "clone",
                                "constant_pad_nd",
                                "contiguous",
                                "copy",
                                "copy_",
                                "detach",
                                "detach_",
                                "diagonal",
                                "empty",
                                "empty_like",
                                "empty_permuted",
                                "empty_strided",
                                "expand",
                                "expand_copy",
                                "eye",
                                "fill",
                                "fill_",
                                "flatten",
                                "full",
                                "full_like",
                                "is_pinned",
                                "is_same_size",
                                "item",
                                "lift",
                                "lift_fresh",
                                "lift_fresh_copy",
                                "linspace",
                                "movedim",
                                "narrow",
                                "new_empty",
                                "new_empty_strided",
                                "new_full",
                                "new_ones",
                                "new_zeros",
                                "ones",
                                "ones_like",
                                "pad",
                                "permute",
                                "permute_copy",
                                "pin_memory",
                                "repeat",
                                "reshape",
                                "resize_",
                                "resize_as_",
                                "scalar_tensor",
                                "select",
                                "set_",
                                "slice",
                                "split",
                                "split_with_sizes",
                                "squeeze",
                                "squeeze_",
                                "stack",
                                "stride",
                                "sym_size",
                                "sym_stride",
                                "t",
                                "t_",
                                "to",
                                "transpose",
                                "transpose_",
                                "unbind",
                                "unfold",
                                "unsafe_chunk",
                                "unsafe_split",
                                "unsqueeze",
                                "unsqueeze_",
                                "view",
                                "view_as",
                                "view_as_complex",
                                "view_as_real",
                                "zero",
                                "zero_",
                                "zeros",
                                "zeros_like",
                                "resolve_conj",
                                "resolve_neg"};

constexpr std::array kRandom = {
    "bernoulli",   "bernoulli_",     "cauchy_",      "exponential_", "geometric_", "log_normal_",
    "multinomial", "native_dropout", "normal",       "normal_",      "poisson",    "rand",
    "rand_like",   "randint",        "randint_like", "randn",        "randn_like", "random",
    "random_",     "randperm",       "uniform",      "uniform_"};

// Part of a name -> class; the first that fits.
constexpr std::array<std::pair<std::string_view, std::string_view>, 34> kClasses = {{
    {"scaled_dot_product", "attention"},
    {"log_softmax", "log_softmax"},
    {"softmax", "softmax"},
    {"layer_norm", "layer_norm"},
    {"batch_norm", "batch_norm"},
    {"instance_norm", "batch_norm"},
    {"group_norm", "group_norm"},
    {"rms_norm", "rms_norm"},
    {"adaptive_avg_pool", "avg_pool"},
    {"avg_pool", "avg_pool"},
    {"adaptive_max_pool", "max_pool"},
    {"max_pool", "max_pool"},
    {"lstm", "lstm"},
    {"gru", "gru"},
    {"rnn", "rnn"},
    {"conv", "convolution"},
    {"leaky_relu", "leaky_relu"},
    {"hardswish", "hardswish"},
    {"embedding", "embedding"},
    {"upsample", "upsample"},
    {"cumsum", "cumsum"},
    {"cumprod", "cumprod"},
    {"addbmm", "matmul"},
    {"addmm", "matmul"},
    {"addmv", "matmul"},
    {"baddbmm", "matmul"},
    {"bmm", "matmul"},
    {"matmul", "matmul"},
    {"linear", "matmul"},
    {"einsum", "matmul"},
    {"vdot", "matmul"},
    {"nll_loss", "nll_loss"},
    {"smooth_l1_loss", "smooth_l1_loss"},
    {"mse_loss", "mse_loss"},
}};

// "aten::relu_" -> "relu"
std::string_view plain_name(std::string_view name) {
  const size_t colons = name.rfind("::");
  return colons == std::string_view::npos ? name : name.substr(colons + 2);
}

template <size_t N>
bool contains(const std::array<const char*, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

OperatorKind operator_kind(std::string_view name) {
  const std::string_view plain = plain_name(name);
  if (contains(kLayout, plain)) return OperatorKind::kLayout;
  if (contains(kRandom, plain)) return OperatorKind::kRandom;
  return OperatorKind::kCompute;
}

std::string operator_class(std::string_view name) {
  std::string_view plain = plain_name(name);
  while (plain.starts_with('_')) plain.remove_prefix(1);
  while (plain.ends_with('_')) plain.remove_suffix(1);
  if (plain == "mm" || plain == "mv" || plain == "dot") return "matmul";
  if (plain == "clamp_min" || plain == "clamp_max" || plain == "clip") return "clamp";
  for (const auto& [part, class_name] : kClasses) {
    if (plain.find(part) != std::string_view::npos) return std::string(class_name);
  }
  return std::string(plain);
}

WorkJudgement judge_work(const OperatorCounts& reference, const OperatorCounts& candidate) {
  OperatorCounts allowed;
  int64_t num_reference = 0;
  for (const auto& [name, count] : reference) {
    if (operator_kind(name) != OperatorKind::kCompute) continue;
    allowed[operator_class(name)] += count;
    num_reference += count;
    // A matrix product with a bias may be written as two operators.
    if (plain_name(name).starts_with("add") && operator_class(name) == "matmul") allowed["add"] += count;
  }
  OperatorCounts used;
  int64_t num_candidate = 0;
  for (const auto& [name, count] : candidate) {
    if (operator_kind(name) != OperatorKind::kCompute) continue;
    used[operator_class(name)] += count;
    num_candidate += count;
  }
  WorkJudgement judgement;
  for (const auto& [name, count] : used) {
    judgement.operators.push_back(name);
    const auto found = allowed.find(name);
    if (found == allowed.end() || found->second < count) judgement.share = WorkShare::kForeign;
  }
  if (judgement.share == WorkShare::kForeign || used.empty()) return judgement;
  judgement.share = num_candidate < num_reference ? WorkShare::kPartial : WorkShare::kNothingReplaced;
  return judgement;
}

}  // namespace nemoforge::verify
