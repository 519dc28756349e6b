// The backward ops that CUDA does not have yet.
#pragma once

#include <string_view>

namespace nemoforge::ops {

// Their names; empty where none is missing.
inline constexpr std::string_view kPendingTrainingOps =
    "attention, causal_conv1d, gated_rms_norm, rms_norm, ssd_scan";

}  // namespace nemoforge::ops
