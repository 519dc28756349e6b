// nemoforge merge: an adapter folded into its base, as a checkpoint of its own.
#include "train/merge.h"

#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/standard_input.h"

namespace nemoforge::cli {
namespace {

struct MergeCommand {
  std::string model;
  std::string lora;
  std::string out;
};

Status run_merge(const MergeCommand& command) {
  NF_TRY(const int64_t num_merged, train::merge_adapter(command.model, command.lora, command.out));
  return write_standard_output(fmt::format("{}: {} with {} matrices changed by {}\n", command.out,
                                           command.model, num_merged, command.lora));
}

}  // namespace

void add_merge_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<MergeCommand>();
  CLI::App* sub = add_command(app, outcome, "merge", "Merge a LoRA adapter into a full checkpoint",
                              [command] { return run_merge(*command); });
  sub->add_option("--model", command->model, "Checkpoint folder that the adapter was trained on")->required();
  sub->add_option("--lora", command->lora, "Folder of the adapter in PEFT format")->required();
  sub->add_option("--out", command->out, "Folder to write the new checkpoint to")->required();
}

}  // namespace nemoforge::cli
