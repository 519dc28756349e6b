// What the CUDA kernels' thread blocks and shared memory are laid out for; the kernels check it again.
#pragma once

#include "ops/backend.h"

namespace nemoforge::ops {

inline constexpr ShapeLimits kCudaShapeLimits = {
    .hidden_size = 8192,  // three times Nemotron-3-Nano's
    .head_dim = 256,
    .ssm_state_size = 256,
    .norm_group_size = 8192,
    .num_experts = 512,
    .num_expert_groups = 32,
    .top_k = 32,
    .lora_rank = 1024,
};

}  // namespace nemoforge::ops
