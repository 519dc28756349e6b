// The command `nemoforge verify-worker`.
#pragma once

#include "cli/command.h"

namespace nemoforge::cli {

void add_verify_worker_command(CLI::App& app, Outcome& outcome);

}  // namespace nemoforge::cli
