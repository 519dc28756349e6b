#include "base/log.h"

#include <cstdlib>

#include <spdlog/sinks/stdout_color_sinks.h>

#include "base/log_line.h"

namespace nemoforge {

void init_logging() {
  auto logger = spdlog::stderr_color_mt("nemoforge");
  logger->set_pattern("[%H:%M:%S.%e] [%^%l%$] %v");
  const char* level = std::getenv("NEMOFORGE_LOG");
  logger->set_level(level == nullptr ? spdlog::level::info : spdlog::level::from_str(level));
  spdlog::set_default_logger(std::move(logger));
}

void log_error_line(std::string_view text) {
  spdlog::error("{}", text);
}

}  // namespace nemoforge
