// How a subcommand is made: one file a subcommand, holding its flags (a config struct), its call and its
// printing.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"

namespace CLI {
class App;
}

namespace nemoforge::cli {

// What the chosen subcommand came to; main turns it into the exit code: 0 done, 1 the work failed (said in
// one line). A wrong command line is exit code 2 (CLI11's errors, and CLI::ValidationError thrown by a
// command's own checks of its flags).
struct Outcome {
  Status status;
};

// Registers a subcommand whose callback stores the Status of `run`.
//   auto config = std::make_shared<RenderConfig>();
//   CLI::App* command = add_command(app, outcome, "render", "…", [config] { return run_render(*config); });
//   command->add_option("--model", config->model, "…")->required();
CLI::App* add_command(CLI::App& app, Outcome& outcome, const std::string& name,
                      const std::string& description, std::function<Status()> run);

// Makes every numeric flag of `app` and its subcommands refuse what the conversion would take for another
// number: NaN and infinities, a minus sign before an unsigned value, a value out of range. Called once all
// commands are there.
void add_number_checks(CLI::App& app);

// For values of flags that code below the commands judges: throws CLI::ValidationError (exit code 2) with the
// error's text.
void check_flag(const std::string& flag, const Status& status);

void add_generate_command(CLI::App& app, Outcome& outcome);
void add_chat_command(CLI::App& app, Outcome& outcome);
void add_tokenize_command(CLI::App& app, Outcome& outcome);
void add_detokenize_command(CLI::App& app, Outcome& outcome);
void add_render_command(CLI::App& app, Outcome& outcome);
void add_logits_command(CLI::App& app, Outcome& outcome);
void add_trace_command(CLI::App& app, Outcome& outcome);
void add_verify_command(CLI::App& app, Outcome& outcome);
void add_dataset_command(CLI::App& app, Outcome& outcome);
void add_report_command(CLI::App& app, Outcome& outcome);
void add_bench_command(CLI::App& app, Outcome& outcome);
void add_serve_command(CLI::App& app, Outcome& outcome);
void add_launch_command(CLI::App& app, Outcome& outcome);
void add_finetune_command(CLI::App& app, Outcome& outcome);
void add_merge_command(CLI::App& app, Outcome& outcome);
void add_forge_command(CLI::App& app, Outcome& outcome);
void add_doctor_command(CLI::App& app, Outcome& outcome);

}  // namespace nemoforge::cli
