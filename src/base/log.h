// Logging: spdlog to standard error, so that standard output carries only what a command was asked for.
#pragma once

#include <spdlog/spdlog.h>

namespace nemoforge {

// Sends log lines to standard error at the level of NEMOFORGE_LOG (trace, debug, info, warn, error; default
// info).
void init_logging();

}  // namespace nemoforge
