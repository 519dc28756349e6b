// Subcommands that talk to a server as its clients do.
#pragma once

#include "cli/command.h"

namespace nemoforge::cli {

void add_test_server_command(CLI::App& app, Outcome& outcome);
// "serve" of the subcommand bench, which add_bench_command has made.
void add_bench_serve_command(CLI::App& app, Outcome& outcome);
// Likewise "server".
void add_bench_server_command(CLI::App& app, Outcome& outcome);

}  // namespace nemoforge::cli
