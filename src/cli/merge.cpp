// nemoforge merge: an adapter folded into its base, as a checkpoint of its own.
#include "train/merge.h"

#include <memory>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/agreement_summary.h"
#include "cli/command.h"
#include "cli/sft_data.h"
#include "cli/standard_input.h"
#include "model/config.h"
#include "ops/device_choice.h"
#include "train/agreement.h"

namespace nemoforge::cli {
namespace {

struct MergeCommand {
  std::string model;
  std::string lora;
  std::string out;
  std::string check;  // dataset; empty: none
};

// Compares base and adapter with the merged checkpoint: the summary's line.
Result<std::string> check_merged(const MergeCommand& command, const train::SftDataset& data) {
  NF_TRY(const std::unique_ptr<ops::Backend> backend, ops::make_backend(ops::DeviceChoice::kCpu));
  NF_TRY(train::ServedModel adapted, train::ServedModel::load(command.model, command.lora, *backend));
  NF_TRY(train::ServedModel merged, train::ServedModel::load(command.out, "", *backend));
  NF_TRY(
      const train::Agreement agreement,
      train::measure_agreement(data.documents, train::served_logits(adapted), train::served_logits(merged)));
  return agreement_summary("adapter and merged weights", agreement, kMaxKlOfRoundedWeights);
}

Status run_merge(const MergeCommand& command) {
  std::optional<train::SftDataset> data;
  if (!command.check.empty()) {
    NF_TRY(const model::ModelConfig config, model::load_model_config(command.model));
    NF_TRY(data, read_sft_data(command.model, config, command.check,
                               {.max_tokens = config.max_position_embeddings,
                                .long_documents = train::LongDocuments::kSkip}));
  }
  NF_TRY(const int64_t num_merged, train::merge_adapter(command.model, command.lora, command.out));
  NF_RETURN_IF_ERROR(write_standard_output(fmt::format("{}: {} with {} matrices changed by {}\n", command.out,
                                                       command.model, num_merged, command.lora)));
  if (!data) return {};
  NF_TRY(const std::string line, check_merged(command, *data));
  return write_standard_output(line);
}

}  // namespace

void add_merge_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<MergeCommand>();
  CLI::App* sub = add_command(app, outcome, "merge", "Merge a LoRA adapter into a full checkpoint",
                              [command] { return run_merge(*command); });
  sub->add_option("--model", command->model, "Checkpoint folder that the adapter was trained on")->required();
  sub->add_option("--lora", command->lora, "Folder of the adapter in PEFT format")->required();
  sub->add_option("--out", command->out, "Folder to write the new checkpoint to")->required();
  sub->add_option("--check", command->check,
                  "JSON Lines file of conversations on which to compare adapter and merged weights");
}

}  // namespace nemoforge::cli
