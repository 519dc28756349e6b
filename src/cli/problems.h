// `nemoforge problems`: what each problem of a set needs, and which of them this machine can verify.
#pragma once

#include "cli/command.h"

namespace nemoforge::cli {

void add_problems_command(CLI::App& app, Outcome& outcome);

}  // namespace nemoforge::cli
