// nemoforge finetune: trains an adapter, or all weights, on a dataset of conversations.
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/agreement_summary.h"
#include "cli/choice.h"
#include "cli/command.h"
#include "cli/finetune_summary.h"
#include "cli/loaded_model.h"
#include "cli/sft_data.h"
#include "cli/standard_input.h"
#include "io/json.h"
#include "model/config.h"
#include "model/weights.h"
#include "ops/device_choice.h"
#include "trace/checkpoint_hash.h"
#include "train/adapter_folder.h"
#include "train/agreement.h"
#include "train/checkpoint_folder.h"
#include "train/curves_page.h"
#include "train/event_file.h"
#include "train/host_copies.h"
#include "train/initial_weights.h"
#include "train/metrics.h"
#include "train/recipe.h"
#include "train/sft_dataset.h"
#include "train/trainable_model.h"
#include "train/trainer.h"

namespace nemoforge::cli {
namespace {

namespace fs = std::filesystem;

enum class Method { kLora, kFull };
enum class Init { kCheckpoint, kRandom };

struct FinetuneCommand {
  std::string model;
  std::string data;
  std::string eval_data;
  double eval_fraction = 0;
  std::string out;
  std::string device = "cpu";
  std::string dtype = "auto";
  Method method = Method::kLora;
  Init init = Init::kCheckpoint;
  std::vector<std::string> lora_targets = {"attention", "mamba", "shared", "experts", "mlp"};
  train::LoraOptions lora;
  train::AdapterLayout layout = train::AdapterLayout::kPerExpert;
  std::optional<int64_t> max_tokens;
  train::LongDocuments long_documents = train::LongDocuments::kFail;
  std::optional<double> learning_rate;
  train::TrainerOptions trainer;
  std::vector<std::string> recompute = {"all"};
  std::optional<train::RecipeEngine> exported;
  uint64_t seed = 0;
  bool resume = false;
};

// A learning rate that usually works where none is given: adapters and new models start from nothing
// and take larger steps.
constexpr double kLoraLearningRate = 2e-4;
constexpr double kFullLearningRate = 2e-5;
constexpr double kInitialLearningRate = 1e-3;

struct TrainingData {
  train::SftDataset training;
  std::optional<train::SftDataset> evaluation;
};

Result<TrainingData> read_data(const FinetuneCommand& command, const model::ModelConfig& config) {
  train::SftLimits limits{.max_tokens = command.max_tokens.value_or(config.max_position_embeddings),
                          .long_documents = command.long_documents};
  if (limits.max_tokens <= 0) limits.max_tokens = command.trainer.packing.micro_batch_tokens;
  TrainingData data;
  NF_TRY(data.training, read_sft_data(command.model, config, command.data, limits));
  if (!command.eval_data.empty()) {
    NF_TRY(data.evaluation, read_sft_data(command.model, config, command.eval_data, limits));
  } else if (command.eval_fraction > 0) {
    data.evaluation = train::split_off_evaluation(data.training, command.eval_fraction, command.seed);
    if (data.evaluation->documents.empty()) {
      return error(ErrorCode::kInvalidData,
                   command.data + " has only one document, which leaves none to evaluate on",
                   "leave out --eval-fraction");
    }
  }
  return data;
}

Result<train::TrainableModel> make_model(const FinetuneCommand& command, const model::ModelConfig& config,
                                         ops::Backend& backend) {
  NF_TRY(const DType dtype, compute_dtype(command.dtype, backend));
  if (command.init == Init::kRandom) {
    NF_TRY(const train::Initialisation initialisation, train::load_initialisation(command.model));
    return train::TrainableModel::initial(config, initialisation, command.seed, backend, dtype);
  }
  const bool is_full = command.method == Method::kFull;
  NF_TRY(model::Weights weights,
         model::Weights::load(command.model, config, is_full ? DType::kF32 : dtype, backend));
  if (is_full) return train::TrainableModel::full(config, std::move(weights), backend, dtype);
  return train::TrainableModel::lora(config, std::move(weights), command.lora, backend, dtype);
}

int64_t file_bytes(const std::string& model_dir) {
  int64_t bytes = 0;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(model_dir, ignored)) {
    if (entry.path().extension() == ".safetensors") bytes += static_cast<int64_t>(entry.file_size(ignored));
  }
  return bytes;
}

// Rows of the largest pass: a document that is longer than a pass is a pass of its own.
int64_t max_rows(const FinetuneCommand& command, const TrainingData& data) {
  int64_t rows = command.trainer.packing.micro_batch_tokens;
  for (const auto& document : data.training.documents) {
    rows = std::max(rows, static_cast<int64_t>(document.token_ids.size()));
  }
  return rows;
}

// The trained tensors by the hub's names.
Status write_full_checkpoint(const FinetuneCommand& command, const train::ParameterSet& set) {
  std::unordered_map<std::string, ConstTensorView> values;
  for (const train::Parameter& parameter : set.parameters) values[parameter.name] = parameter.value;
  return train::write_checkpoint(
      command.model, command.out, [&](const std::string& name) { return values.contains(name); },
      [&](const std::string& name, std::span<float> target) -> Status {
        const ConstTensorView value = values.at(name);
        if (value.numel() != static_cast<int64_t>(target.size())) {
          return error(ErrorCode::kInvalidData,
                       command.model + ": tensor \"" + name + "\" has changed its size");
        }
        std::copy_n(value.data<float>(), target.size(), target.data());
        return {};
      });
}

Status write_result(const FinetuneCommand& command, train::TrainableModel& model) {
  train::HostCopies copies(model.backend());
  const train::ParameterSet values = copies.values_of(model.parameters());
  if (command.init == Init::kRandom) {
    NF_TRY(const train::Initialisation initialisation, train::load_initialisation(command.model));
    return train::write_new_checkpoint(command.model, command.out, initialisation.dtype, values,
                                       copies.of(model.frozen()));
  }
  if (command.method == Method::kFull) return write_full_checkpoint(command, values);
  return train::write_adapter(command.out, values, model.config(), command.lora, command.layout,
                              command.model);
}

Result<std::string> settings_json(const FinetuneCommand& command, DType dtype) {
  NF_TRY(const std::string hash, trace::checkpoint_hash(command.model));
  io::Json settings = {{"model", hash}, {"method", command.method == Method::kFull ? "full" : "lora"}};
  if (command.method == Method::kLora) {
    settings["lora_targets"] = command.lora_targets;
    settings["rank"] = command.lora.rank;
    settings["alpha"] = command.lora.alpha;
    settings["rslora"] = command.lora.use_rslora;
    settings["lora_dropout"] = command.lora.dropout;
  }
  if (command.init == Init::kRandom) settings["init"] = "random";
  if (dtype != DType::kF32) settings["dtype"] = dtype_name(dtype);
  settings["eval_fraction"] = command.eval_fraction;
  return io::dump_json(settings);
}

Status read_targets(FinetuneCommand& command) {
  train::LoraTargets& targets = command.lora.targets;
  targets = {false, false, false, false, false};
  const std::map<std::string, bool*> by_name = {{"attention", &targets.attention},
                                                {"mamba", &targets.mamba},
                                                {"shared", &targets.shared_experts},
                                                {"experts", &targets.experts},
                                                {"mlp", &targets.mlp}};
  for (const std::string& name : command.lora_targets) {
    const auto found = by_name.find(name);
    if (found == by_name.end()) {
      throw CLI::ValidationError("--lora-targets",
                                 "unknown target '" + name + "': attention, mamba, shared, experts or mlp");
    }
    *found->second = true;
  }
  return {};
}

Status prepare_out(const FinetuneCommand& command) {
  std::error_code failure;
  fs::create_directories(command.out, failure);
  if (failure) {
    return error(ErrorCode::kIo, "cannot create the folder " + command.out + ": " + failure.message());
  }
  if (!command.resume && fs::exists(command.trainer.state_path)) {
    return error(ErrorCode::kInvalidArgument, command.out + " already holds a run",
                 "continue it with --resume, or use another --out");
  }
  return {};
}

double default_learning_rate(const FinetuneCommand& command) {
  if (command.init == Init::kRandom) return kInitialLearningRate;
  return command.method == Method::kFull ? kFullLearningRate : kLoraLearningRate;
}

std::string metrics_path(const FinetuneCommand& command) {
  return (fs::path(command.out) / "metrics.jsonl").string();
}

// The metrics as TensorBoard and people read them.
Status write_curves(const FinetuneCommand& command) {
  const std::string metrics = metrics_path(command);
  const fs::path out = command.out;
  NF_RETURN_IF_ERROR(
      train::write_event_file(metrics, (out / "tensorboard" / "events.out.tfevents.nemoforge").string()));
  return train::write_curves_page(metrics, "nemoforge finetune: " + command.out,
                                  (out / "curves.html").string());
}

// Trains with a progress bar and the metrics file.
Result<train::TrainingReport> train_with_progress(const FinetuneCommand& command,
                                                  train::TrainableModel& model, const TrainingData& data) {
  train::MetricsFile metrics(metrics_path(command));
  Status curves;
  std::unique_ptr<Progress> progress;
  std::string eval_note;
  train::TrainerEvents events;
  events.begin = [&](int64_t num_steps_done) {
    progress = std::make_unique<Progress>(
        "finetune", "tokens", train::count_steps(data.training.documents, command.trainer), num_steps_done);
    return metrics.begin(num_steps_done);
  };
  events.step = [&](const train::StepReport& report) {
    progress->add_work(report.num_rows);
    progress->set_note(fmt::format("loss {:.4f}{}", report.loss, eval_note));
    progress->finish_item();
    return metrics.add(report);
  };
  events.evaluation = [&](const train::EvaluationReport& report) {
    eval_note = fmt::format(", held out {:.4f}", report.loss);
    return metrics.add(report);
  };
  events.saved = [&](int64_t /*num_steps_done*/) { curves = write_curves(command); };
  events.should_stop = interrupted;
  NF_TRY(const train::TrainingReport report,
         train::train(model, data.training, data.evaluation ? &*data.evaluation : nullptr, command.trainer,
                      command.resume, events));
  NF_RETURN_IF_ERROR(curves);
  return report;
}

// Reads back what was written, and compares its probabilities of the held-out documents, or else of the
// training documents, with those under training: the summary's line.
Result<std::string> compare_with_serving(const FinetuneCommand& command, train::TrainableModel& model,
                                         const TrainingData& data, int64_t num_steps_done) {
  const bool is_lora = command.method == Method::kLora;
  NF_TRY(train::ServedModel served,
         train::ServedModel::load(is_lora ? command.model : command.out, is_lora ? command.out : "",
                                  model.backend(), model.dtype()));
  const train::SftDataset& compared = data.evaluation ? *data.evaluation : data.training;
  NF_TRY(const train::Agreement agreement,
         train::measure_agreement(compared.documents, train::trained_logits(model),
                                  train::served_logits(served)));
  NF_RETURN_IF_ERROR(train::MetricsFile(metrics_path(command)).add(num_steps_done, agreement));
  return agreement_summary(
      "trained and served", agreement,
      is_lora && model.dtype() == DType::kF32 ? kMaxKlOfSameWeights : kMaxKlOfRoundedWeights);
}

// The run for another engine, instead of the run.
Status export_recipe(const FinetuneCommand& command, const TrainingData& data) {
  const train::RecipeOptions options{
      .engine = *command.exported,
      .model = command.model,
      .lora = command.method == Method::kLora ? &command.lora : nullptr,
      .trainer = command.trainer,
      .max_tokens = command.max_tokens.value_or(command.trainer.packing.micro_batch_tokens)};
  NF_RETURN_IF_ERROR(train::write_recipe(
      command.out, command.data, data.training, data.evaluation ? &*data.evaluation : nullptr,
      command.eval_data.empty() ? command.data : command.eval_data, options));
  return write_standard_output(fmt::format("{}: {}; nothing was trained\n", command.out,
                                           data_summary(data.training, data.evaluation)));
}

Status run_finetune(FinetuneCommand& command) {
  NF_RETURN_IF_ERROR(read_targets(command));
  if (command.init == Init::kRandom && (command.method != Method::kFull || command.exported)) {
    throw CLI::ValidationError("--init", "random is for --method full, without --export");
  }
  const auto parsed = train::parse_recomputation(command.recompute);
  if (!parsed) check_flag("--recompute", tl::unexpected(parsed.error()));
  const train::Recomputation recomputation = *parsed;
  command.trainer.state_path = (fs::path(command.out) / "run_state.safetensors").string();
  command.trainer.packing.seed = command.seed;
  command.lora.seed = command.seed;
  command.trainer.schedule.learning_rate = command.learning_rate.value_or(default_learning_rate(command));
  install_interrupt_handler();
  NF_RETURN_IF_ERROR(prepare_out(command));
  NF_TRY(const model::ModelConfig config, model::load_model_config(command.model));
  NF_TRY(const TrainingData data, read_data(command, config));
  if (command.exported) return export_recipe(command, data);
  NF_TRY(const ops::DeviceChoice device, ops::parse_device_choice(command.device));
  NF_TRY(const std::unique_ptr<ops::Backend> backend, ops::make_backend(device));
  NF_TRY(train::TrainableModel model, make_model(command, config, *backend));
  NF_TRY(command.trainer.settings, settings_json(command, model.dtype()));
  model.recomputation() = recomputation;
  const train::LoraOptions* lora = command.method == Method::kLora ? &command.lora : nullptr;
  NF_RETURN_IF_ERROR(write_standard_output(
      fmt::format("{}: {}\n", command.data, data_summary(data.training, data.evaluation)) +
      parameter_summary(model.parameters()) +
      memory_plan(model, lora, command.trainer.adamw.moments, max_rows(command, data),
                  file_bytes(command.model))));
  NF_RETURN_IF_ERROR(check_memory(model, lora, command.trainer.adamw.moments, max_rows(command, data)));
  NF_TRY(const train::TrainingReport report, train_with_progress(command, model, data));
  if (report.interrupted) {
    return error(ErrorCode::kCancelled,
                 fmt::format("interrupted; {} keeps {} of {} steps", command.trainer.state_path,
                             report.num_steps_done, report.num_steps),
                 "continue with --resume");
  }
  NF_RETURN_IF_ERROR(write_result(command, model));
  std::string line =
      fmt::format("{}: {} steps, {} tokens", command.out, report.num_steps_done, report.num_tokens_done);
  if (report.last_eval_loss) {
    line += fmt::format("; held-out loss {:.4f} -> {:.4f}", *report.first_eval_loss, *report.last_eval_loss);
  }
  NF_TRY(const std::string agreement, compare_with_serving(command, model, data, report.num_steps_done));
  // Once more with what was measured at the end.
  NF_RETURN_IF_ERROR(write_curves(command));
  return write_standard_output(line + "\n" + agreement);
}

void add_data_flags(CLI::App& app, FinetuneCommand& command) {
  app.add_option("--model", command.model, "Checkpoint folder in Hugging Face format")->required();
  app.add_option("--data", command.data, "JSON Lines file of conversations, as `nemoforge dataset` writes it")
      ->required();
  app.add_option("--out", command.out, "Folder for the adapter or checkpoint, and for the state of the run")
      ->required();
  CLI::Option* eval_data =
      app.add_option("--eval-data", command.eval_data,
                     "JSON Lines file of conversations to evaluate the loss on, never trained on");
  app.add_option("--eval-fraction", command.eval_fraction,
                 "Fraction of --data to evaluate on instead of training on it")
      ->check(CLI::Range(0.0, 0.9))
      ->excludes(eval_data);
  app.add_option("--max-tokens", command.max_tokens,
                 "Maximum number of tokens of a document (default: the model's max_position_embeddings)")
      ->check(CLI::PositiveNumber);
  app.add_option("--long-documents", command.long_documents, "Treatment of longer documents (default: fail)")
      ->transform(one_of(std::map<std::string, train::LongDocuments>{{"fail", train::LongDocuments::kFail},
                                                                     {"skip", train::LongDocuments::kSkip}}));
}

void add_method_flags(CLI::App& app, FinetuneCommand& command) {
  app.add_option("--method", command.method,
                 "Parameters to train; lora: an adapter on frozen weights, full: all weights")
      ->transform(one_of(std::map<std::string, Method>{{"lora", Method::kLora}, {"full", Method::kFull}}));
  app.add_option(
         "--init", command.init,
         "Weights to begin with, for --method full; checkpoint: those of --model (the default), random: "
         "new ones drawn by --seed, where --model needs no weights")
      ->transform(
          one_of(std::map<std::string, Init>{{"checkpoint", Init::kCheckpoint}, {"random", Init::kRandom}}));
  app.add_option("--lora-targets", command.lora_targets,
                 "Linear layers that get an adapter: attention, mamba, shared, experts, mlp")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--rank", command.lora.rank, "Rank of the adapter")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--alpha", command.lora.alpha, "LoRA alpha: the adapter's scale times its rank")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--rslora", command.lora.use_rslora, "Scale by alpha / sqrt(rank)");
  app.add_option("--lora-dropout", command.lora.dropout,
                 "Fraction of the adapter's input that is dropped in training, below 1")
      ->check(CLI::Range(0.0, 0.999))
      ->capture_default_str();
  app.add_option(
         "--layout", command.layout,
         "Layout of the adapter: per_expert (for vLLM and SGLang) or peft3d (PEFT's target_parameters)")
      ->transform(one_of(std::map<std::string, train::AdapterLayout>{
          {"per_expert", train::AdapterLayout::kPerExpert}, {"peft3d", train::AdapterLayout::kPeft3d}}));
}

void add_schedule_flags(CLI::App& app, FinetuneCommand& command) {
  train::TrainerOptions& trainer = command.trainer;
  app.add_option("--learning-rate", command.learning_rate,
                 "Peak learning rate (default: 2e-4 for lora, 2e-5 for full, 1e-3 for --init random)")
      ->check(CLI::PositiveNumber);
  app.add_option("--schedule", trainer.schedule.decay, "Decay of the learning rate (default: cosine)")
      ->transform(one_of(std::map<std::string, train::Decay>{{"constant", train::Decay::kConstant},
                                                             {"linear", train::Decay::kLinear},
                                                             {"cosine", train::Decay::kCosine}}));
  app.add_option("--warmup-steps", trainer.schedule.num_warmup_steps,
                 "Number of steps over which the learning rate rises")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--final-rate", trainer.schedule.final_fraction,
                 "Fraction of the learning rate at which the decay ends")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--optimizer", trainer.adamw.moments,
                 "Optimizer; adamw: fp32 moments (the default), adamw8bit: 8-bit moments")
      ->transform(one_of(std::map<std::string, train::MomentFormat>{
          {"adamw", train::MomentFormat::kF32}, {"adamw8bit", train::MomentFormat::kBlock8}}));
  app.add_option("--weight-decay", trainer.adamw.weight_decay,
                 "Weight decay of matrices, not of norms and embeddings")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--max-grad-norm", trainer.max_grad_norm,
                 "Maximum norm of the gradients, which are scaled down to it; 0: no limit")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

void add_loop_flags(CLI::App& app, FinetuneCommand& command) {
  train::TrainerOptions& trainer = command.trainer;
  app.add_option("--epochs", trainer.num_epochs, "Number of passes over the data")
      ->check(CLI::Range(int64_t{1}, int64_t{100000}))
      ->capture_default_str();
  app.add_option("--max-steps", trainer.max_steps, "Number of steps of the run, instead of --epochs")
      ->check(CLI::PositiveNumber);
  app.add_option("--micro-batch-tokens", trainer.packing.micro_batch_tokens,
                 "Maximum number of tokens of the documents packed into one pass")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  app.add_option("--grad-accum", trainer.packing.grad_accum, "Number of passes per step")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16))
      ->capture_default_str();
  app.add_option(
         "--recompute", command.recompute,
         "Layers that run again for their gradients instead of keeping their activations: all, none, or "
         "some of mamba, attention, moe, mlp")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--eval-every", trainer.eval_every,
                 "Number of steps between evaluations; 0: only before and after the run")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--save-every", trainer.save_every, "Number of steps between saves of the run's state")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--seed", command.seed, "Seed of the initial values and the order of the data")
      ->capture_default_str();
  app.add_option("--export", command.exported,
                 "Write data and recipe for nemo-automodel or megatron-bridge to --out instead of training")
      ->transform(CLI::CheckedTransformer(std::map<std::string, train::RecipeEngine>{
          {"nemo-automodel", train::RecipeEngine::kNemoAutomodel},
          {"megatron-bridge", train::RecipeEngine::kMegatronBridge}}));
  app.add_flag("--resume", command.resume, "Continue the run in --out");
  app.add_option("--device", command.device, "Device that trains the model")
      ->check(CLI::IsMember({"cpu", "cuda", "reference"}))
      ->capture_default_str();
  app.add_option("--dtype", command.dtype,
                 "Data type of the activations and their gradients (auto: fp32 on the CPU, bf16 on a GPU)")
      ->check(CLI::IsMember({"auto", "fp32", "bf16"}))
      ->capture_default_str();
}

}  // namespace

void add_finetune_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<FinetuneCommand>();
  CLI::App* sub = add_command(app, outcome, "finetune", "Train a LoRA adapter, or all weights, on a dataset",
                              [command] { return run_finetune(*command); });
  add_data_flags(*sub, *command);
  add_method_flags(*sub, *command);
  add_schedule_flags(*sub, *command);
  add_loop_flags(*sub, *command);
}

}  // namespace nemoforge::cli
