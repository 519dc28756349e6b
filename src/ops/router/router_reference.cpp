#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/element_access.h"
#include "ops/reference_backend.h"

namespace nemoforge::ops {
namespace {

// Indices of `values` by falling value, ties by index; NaN is larger than every number.
std::vector<size_t> order_of(const std::vector<float>& values) {
  std::vector<size_t> order(values.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::isnan(values[a]) ? !std::isnan(values[b]) : values[a] > values[b];
  });
  return order;
}

// The sum of the two largest `choice` of each group.
std::vector<float> group_scores(const std::vector<float>& choice, size_t group_size) {
  std::vector<float> scores;
  for (size_t begin = 0; begin < choice.size(); begin += group_size) {
    const std::vector<float> group(&choice[begin], &choice[begin] + group_size);
    const std::vector<size_t> order = order_of(group);
    scores.push_back(group[order[0]] + (group_size > 1 ? group[order[1]] : 0));
  }
  return scores;
}

void route_token(const RouterArgs& args, int64_t token) {
  const auto num_experts = static_cast<size_t>(args.logits.size(1));
  const size_t group_size = num_experts / static_cast<size_t>(args.num_groups);
  std::vector<float> scores(num_experts);
  std::vector<float> choice(num_experts);
  for (size_t expert = 0; expert < num_experts; ++expert) {
    const double logit = load_element(args.logits, token, static_cast<int64_t>(expert));
    scores[expert] = static_cast<float>(1 / (1 + std::exp(-logit)));
    choice[expert] = scores[expert] + args.correction_bias.data<float>()[expert];
  }
  std::vector<bool> competes(num_experts);
  const std::vector<size_t> groups = order_of(group_scores(choice, group_size));
  for (size_t i = 0; i < static_cast<size_t>(args.top_k_groups); ++i) {
    for (size_t j = 0; j < group_size; ++j) competes[groups[i] * group_size + j] = true;
  }
  std::vector<size_t> chosen = order_of(choice);
  std::erase_if(chosen, [&](size_t expert) { return !competes[expert]; });
  chosen.resize(static_cast<size_t>(args.top_k));
  double sum = 1e-20;
  for (const size_t expert : chosen) sum += static_cast<double>(scores[expert]);
  for (size_t k = 0; k < chosen.size(); ++k) {
    const double weight = static_cast<double>(scores[chosen[k]]) / (args.normalize ? sum : 1);
    const auto column = static_cast<int64_t>(k);
    store_element(args.expert_ids, token, column, static_cast<double>(chosen[k]));
    store_element(args.expert_weights, token, column, weight * static_cast<double>(args.scale));
  }
}

}  // namespace

void ReferenceBackend::router(const RouterArgs& args) {
  check(args);
  for (int64_t token = 0; token < args.logits.size(0); ++token) route_token(args, token);
}

}  // namespace nemoforge::ops
