// Logging for code that cannot include spdlog (CUDA sources: nvcc rejects its headers).
#pragma once

#include <string_view>

namespace nemoforge {

void log_error_line(std::string_view text);

}  // namespace nemoforge
