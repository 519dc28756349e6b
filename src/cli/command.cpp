#include "cli/command.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <utility>

#include <CLI/CLI.hpp>

namespace nemoforge::cli {

namespace {

// CLI11's checks give the complaint, empty where there is none.
std::string complain_unless_finite(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return end != text.c_str() && !std::isfinite(value) ? text + " is not a finite number" : std::string();
}

std::string complain_unless_unsigned(const std::string& text) {
  uint64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_whole = failure == std::errc() && end == text.data() + text.size();
  return is_whole ? std::string() : text + " is not a whole number from 0 to 18446744073709551615";
}

}  // namespace

void add_number_checks(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    if (type.starts_with("FLOAT")) option->check(CLI::Validator(complain_unless_finite, ""));
    if (type.starts_with("UINT")) option->check(CLI::Validator(complain_unless_unsigned, ""));
  }
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    add_number_checks(*command);
  }
}

void check_flag(const std::string& flag, const Status& status) {
  if (!status) throw CLI::ValidationError(flag, status.error().message);
}

CLI::App* add_command(CLI::App& app, Outcome& outcome, const std::string& name,
                      const std::string& description, std::function<Status()> run) {
  CLI::App* command = app.add_subcommand(name, description);
  command->callback([&outcome, run = std::move(run)] { outcome.status = run(); });
  return command;
}

}  // namespace nemoforge::cli
