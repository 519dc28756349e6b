// The cases of the router, for tests and benchmarks.
#pragma once

#include <cstdint>
#include <vector>

namespace nemoforge::ops {

struct RouterCase {
  const char* name = "base";
  const char* reason = "groups compete, weights are normalised";
  int64_t num_tokens = 9;
  int64_t num_experts = 24;
  int64_t num_groups = 4;
  int64_t top_k_groups = 2;
  int64_t top_k = 3;
  bool normalize = true;
  float scale = 2.5f;
  double logit_scale = 2;
  int64_t logits_row_gap = 0;
};

[[nodiscard]] inline std::vector<RouterCase> router_cases() {
  return {
      {},
      {.name = "no tokens", .reason = "a batch may be empty", .num_tokens = 0},
      {.name = "one expert",
       .reason = "nothing to choose",
       .num_experts = 1,
       .num_groups = 1,
       .top_k_groups = 1,
       .top_k = 1},
      {.name = "one group", .reason = "Nemotron-3-Nano has no groups", .num_groups = 1, .top_k_groups = 1},
      {.name = "all groups", .reason = "the limit does not limit", .top_k_groups = 4},
      {.name = "one best group", .reason = "all experts from one group", .top_k_groups = 1, .top_k = 6},
      {.name = "groups of one", .reason = "no second largest", .num_groups = 24, .top_k_groups = 7},
      {.name = "groups of two", .reason = "both are summed", .num_groups = 12, .top_k_groups = 3},
      {.name = "not normalised", .reason = "norm_topk_prob false", .normalize = false, .scale = 1},
      {.name = "all experts", .reason = "a complete order", .top_k_groups = 4, .top_k = 24},
      {.name = "saturated",
       .reason = "scores of exactly 0 and 1 tie: the lower id wins",
       .num_tokens = 40,
       .logit_scale = 200},
      {.name = "strided", .reason = "logits may be a slice", .logits_row_gap = 3},
      {.name = "nemotron",
       .reason = "the real router, enough tokens for several tasks",
       .num_tokens = 200,
       .num_experts = 128,
       .num_groups = 1,
       .top_k_groups = 1,
       .top_k = 6},
  };
}

}  // namespace nemoforge::ops
