// nemoforge: from a PyTorch problem to a verified Triton kernel to a finetuned model.
#include <csignal>
#include <exception>
#include <iostream>
#include <new>
#include <string_view>

#include <CLI/CLI.hpp>
#include <unistd.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/problems.h"
#include "cli/remote_commands.h"
#include "cli/verify_worker.h"

namespace {

constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

int fail(const std::string& message) {
  std::cerr << "nemoforge: " << message << '\n';
  return kExitFailed;
}

// A mapped checkpoint that another process cuts short while it is read: a page of it is no more.
void on_bus_error(int /*signal*/) {
  constexpr std::string_view kMessage =
      "nemoforge: a mapped file was cut short, or its disk failed, while it was read; do not change a "
      "checkpoint in use\n";
  // Nothing can be done where standard error is gone too.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
  ::_exit(kExitFailed);
}

int run(int argc, char** argv) {
  CLI::App app(
      "Serves nemotron_h models, has them write Triton kernels, verifies the kernels, and trains on those "
      "that "
      "pass.");
  app.name("nemoforge");
  app.set_version_flag("--version", "nemoforge " NEMOFORGE_VERSION);
  app.require_subcommand(1);
  app.footer("Run nemoforge COMMAND --help for the flags of a command.");

  using namespace nemoforge::cli;
  Outcome outcome;
  add_generate_command(app, outcome);
  add_chat_command(app, outcome);
  add_trace_command(app, outcome);
  add_verify_command(app, outcome);
  add_problems_command(app, outcome);
  add_verify_worker_command(app, outcome);
  add_dataset_command(app, outcome);
  add_report_command(app, outcome);
  add_finetune_command(app, outcome);
  add_merge_command(app, outcome);
  add_forge_command(app, outcome);
  add_tokenize_command(app, outcome);
  add_detokenize_command(app, outcome);
  add_render_command(app, outcome);
  add_logits_command(app, outcome);
  add_bench_command(app, outcome);
  add_serve_command(app, outcome);
  add_launch_command(app, outcome);
  add_test_server_command(app, outcome);
  add_bench_serve_command(app, outcome);
  add_bench_server_command(app, outcome);
  add_doctor_command(app, outcome);

  add_number_checks(app);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& failure) {
    return app.exit(failure) == 0 ? kExitDone : kExitUsage;
  }
  if (!outcome.status) return fail(outcome.status.error().to_string());
  return kExitDone;
}

}  // namespace

int main(int argc, char** argv) {
  nemoforge::init_logging();
  // A reader that goes away (a closed pipe) is a failed write, not a death without words.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGBUS, on_bus_error);
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    return fail("out of memory");
  } catch (const std::exception& failure) {
    return fail(std::string("internal error: ") + failure.what());
  }
}
