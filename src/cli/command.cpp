#include "cli/command.h"

#include <utility>

#include <CLI/CLI.hpp>

namespace nemoforge::cli {

CLI::App* add_command(CLI::App& app, Outcome& outcome, const std::string& name,
                      const std::string& description, std::function<Status()> run) {
  CLI::App* command = app.add_subcommand(name, description);
  command->callback([&outcome, run = std::move(run)] { outcome.status = run(); });
  return command;
}

}  // namespace nemoforge::cli
