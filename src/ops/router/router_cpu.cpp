// Tokens are independent: a range of them is a task. The k-th expert is found as the best of those that come
// after the (k - 1)-th in the order of falling choice, so that nothing needs to be sorted or marked.
#include <cmath>

#include "ops/cpu_backend.h"
#include "ops/parallel_ranges.h"
#include "ops/scratch.h"

namespace nemoforge::ops {
namespace {

// NaN is larger than every number: it gets chosen, and shows.
bool is_larger(float a, float b) {
  return a > b || (std::isnan(a) && !std::isnan(b));
}

// Whether index a comes before index b in the order of falling values, ties by index.
bool precedes(const float* values, int64_t a, int64_t b) {
  if (is_larger(values[a], values[b])) return true;
  return !is_larger(values[b], values[a]) && a < b;
}

// The first index in that order that comes after `previous` (-1: the first of all) and that `competes`; -1
// where there is none.
template <typename Competes>
int64_t next_in_order(const float* values, int64_t count, int64_t previous, const Competes& competes) {
  int64_t best = -1;
  for (int64_t i = 0; i < count; ++i) {
    if (!competes(i) || (previous >= 0 && !precedes(values, previous, i))) continue;
    if (best < 0 || precedes(values, i, best)) best = i;
  }
  return best;
}

// A thread's scratch.
struct TokenScores {
  float* scores;  // [num_experts]
  float* choice;  // [num_experts]
  float* groups;  // [num_groups]
};

// The last of the top_k_groups groups that compete: the others precede it.
int64_t last_competing_group(const RouterArgs& args, const TokenScores& token) {
  const auto all = [](int64_t) { return true; };
  const int64_t group_size = args.logits.size(1) / args.num_groups;
  for (int64_t group = 0; group < args.num_groups; ++group) {
    const float* choice = token.choice + group * group_size;
    const int64_t first = next_in_order(choice, group_size, -1, all);
    const int64_t second = next_in_order(choice, group_size, first, all);
    token.groups[group] = choice[first] + (second >= 0 ? choice[second] : 0);
  }
  int64_t last = -1;
  for (int64_t i = 0; i < args.top_k_groups; ++i) {
    last = next_in_order(token.groups, args.num_groups, last, all);
  }
  return last;
}

void choose_experts(const RouterArgs& args, const TokenScores& token, int32_t* ids) {
  const int64_t num_experts = args.logits.size(1);
  int64_t expert = -1;
  if (args.num_groups == 1) {
    for (int64_t k = 0; k < args.top_k; ++k) {
      expert = next_in_order(token.choice, num_experts, expert, [](int64_t) { return true; });
      ids[k] = static_cast<int32_t>(expert);
    }
    return;
  }
  const int64_t group_size = num_experts / args.num_groups;
  const int64_t last = last_competing_group(args, token);
  const auto competes = [&](int64_t candidate) {
    return !precedes(token.groups, last, candidate / group_size);
  };
  for (int64_t k = 0; k < args.top_k; ++k) {
    expert = next_in_order(token.choice, num_experts, expert, competes);
    ids[k] = static_cast<int32_t>(expert);
  }
}

void route_token(const RouterArgs& args, const TokenScores& token, int64_t row) {
  const float* logits = args.logits.data<float>() + row * args.logits.row_stride();
  const float* bias = args.correction_bias.data<float>();
  for (int64_t expert = 0; expert < args.logits.size(1); ++expert) {
    // In double, rounded once: equal logits of any sign and size give equal scores on every backend.
    token.scores[expert] = static_cast<float>(1 / (1 + std::exp(-static_cast<double>(logits[expert]))));
    token.choice[expert] = token.scores[expert] + bias[expert];
  }
  int32_t* ids = args.expert_ids.data<int32_t>() + row * args.top_k;
  float* weights = args.expert_weights.data<float>() + row * args.top_k;
  choose_experts(args, token, ids);
  float sum = 0;
  for (int64_t k = 0; k < args.top_k; ++k) sum += token.scores[ids[k]];
  const float divisor = args.normalize ? sum + 1e-20f : 1;
  for (int64_t k = 0; k < args.top_k; ++k) weights[k] = token.scores[ids[k]] / divisor * args.scale;
}

}  // namespace

void CpuBackend::router(const RouterArgs& args) {
  check(args);
  const int64_t num_experts = args.logits.size(1);
  const int64_t thread_floats = 2 * num_experts + args.num_groups;
  float* scratch = thread_scratch(thread_floats * pool_.num_threads());
  // An exp takes as long as moving some tens of bytes.
  const int64_t min_tokens = items_per_task(num_experts * 64);
  parallel_ranges(pool_, args.logits.size(0), min_tokens, [&](int64_t begin, int64_t end, int thread_idx) {
    float* floats = scratch + thread_idx * thread_floats;
    const TokenScores token = {floats, floats + num_experts, floats + 2 * num_experts};
    for (int64_t row = begin; row < end; ++row) route_token(args, token, row);
  });
}

}  // namespace nemoforge::ops
