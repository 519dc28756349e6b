// nemoforge: from a PyTorch problem to a verified Triton kernel to a finetuned model.
#include <csignal>
#include <exception>
#include <iostream>
#include <new>

#include <CLI/CLI.hpp>

#include "base/log.h"
#include "cli/command.h"

namespace {

constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

int fail(const std::string& message) {
  std::cerr << "nemoforge: " << message << '\n';
  return kExitFailed;
}

int run(int argc, char** argv) {
  CLI::App app(
      "Serves nemotron_h models, has them write Triton kernels, verifies the kernels and trains on what "
      "holds.");
  app.name("nemoforge");
  app.set_version_flag("--version", "nemoforge " NEMOFORGE_VERSION);
  app.require_subcommand(1);
  app.footer("Each command explains itself: nemoforge COMMAND --help");

  using namespace nemoforge::cli;
  Outcome outcome;
  add_generate_command(app, outcome);
  add_chat_command(app, outcome);
  add_trace_command(app, outcome);
  add_verify_command(app, outcome);
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
  add_doctor_command(app, outcome);

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
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    return fail("out of memory");
  } catch (const std::exception& failure) {
    return fail(std::string("internal error: ") + failure.what());
  }
}
