// Sources, as of November 2026:
//   Automodel: examples/llm_finetune/nemotron/nemotron_nano_v3_hellaswag_peft.yaml@07ca1d9 (the model's
//   recipe),
//     nemo_automodel/components/datasets/llm/chat_dataset.py@02513fb (rows, paths);
//   Megatron-Bridge: recipes/nemotronh/h100/nemotron_3_nano.py@0cabbd5 (the model's recipes),
//     data/builders/gpt_sft.py@0840cdf (GPTSFTDatasetConfig: training.jsonl, validation.jsonl),
//     data/sft_processing.py@153c9bf (ChatSFTPreprocessingConfig), scripts/training/run_recipe.py@03b0450.
#include "train/recipe.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/integers.h"
#include "io/file.h"
#include "io/json.h"

namespace nemoforge::train {
namespace {

namespace fs = std::filesystem;

// Both recipes of the model spread its experts over eight GPUs, which see different data.
constexpr int64_t kNumGpus = 8;
constexpr int64_t kMaxFileBytes = int64_t{16} << 30;

// In YAML and Python alike.
std::string quoted(const std::string& text) {
  return io::dump_json(text);
}
// YAML 1.1 takes 1e-08 for a text.
std::string number(double value) {
  std::string text = io::dump_json(value);
  const size_t exponent = text.find('e');
  if (exponent != std::string::npos && text.find('.') == std::string::npos) text.insert(exponent, ".0");
  return text;
}

std::string list(const std::vector<std::string>& items) {
  return io::dump_json(items);
}

std::string_view decay_name(Decay decay) {
  switch (decay) {
    case Decay::kConstant:
      return "constant";
    case Decay::kLinear:
      return "linear";
    case Decay::kCosine:
      return "cosine";
  }
  return "";
}

int64_t global_batch_size(const RecipeOptions& options) {
  return round_up(std::max<int64_t>(options.trainer.packing.grad_accum, 1), kNumGpus);
}

// What Automodel's matcher shall leave alone: it adapts every linear layer else. The fused kernel of the
// Mamba layers reads out_proj's weight itself, so that an adapter on it would do nothing.
std::vector<std::string> automodel_exclusions(const LoraTargets& targets) {
  std::vector<std::string> names = {"*.out_proj", "*.gate", "lm_head"};
  const auto add = [&](bool wanted, std::initializer_list<const char*> some) {
    if (!wanted) names.insert(names.end(), some.begin(), some.end());
  };
  add(targets.attention, {"*.q_proj", "*.k_proj", "*.v_proj", "*.o_proj"});
  add(targets.mamba, {"*.in_proj"});
  add(targets.shared_experts, {"*.shared_experts.*"});
  add(targets.experts, {"*.mixer.experts", "*.mixer.experts.*"});
  return names;
}

std::vector<std::string> bridge_targets(const LoraTargets& targets) {
  std::vector<std::string> names;
  const auto add = [&](bool wanted, std::initializer_list<const char*> some) {
    if (wanted) names.insert(names.end(), some.begin(), some.end());
  };
  add(targets.attention, {"linear_qkv", "linear_proj"});
  add(targets.mamba, {"in_proj", "out_proj"});
  const bool both = targets.shared_experts && targets.experts;
  add(both, {"linear_fc1", "linear_fc2"});
  add(targets.shared_experts && !both, {"*.shared_experts.linear_fc1", "*.shared_experts.linear_fc2"});
  add(targets.experts && !both, {"*.mlp.experts.linear_fc1", "*.mlp.experts.linear_fc2"});
  return names;
}

std::string automodel_recipe(const RecipeOptions& options, bool has_validation) {
  const TrainerOptions& trainer = options.trainer;
  std::ostringstream text;
  text << "# Written by nemoforge finetune --export nemo-automodel. In this folder, on every node:\n"
       << "#   automodel recipe.yaml --nproc-per-node " << kNumGpus << "\n"
       << "# Documents are not packed: the state of a Mamba layer would run on into the next one.\n"
       << "recipe: TrainFinetuneRecipeForNextTokenPrediction\n"
       << "step_scheduler:\n  global_batch_size: " << global_batch_size(options)
       << "\n  local_batch_size: 1\n  ckpt_every_steps: " << std::max<int64_t>(1, trainer.save_every)
       << "\n  val_every_steps: " << std::max<int64_t>(1, trainer.eval_every > 0 ? trainer.eval_every : 50);
  if (trainer.max_steps) {
    text << "\n  max_steps: " << *trainer.max_steps;
  } else {
    text << "\n  num_epochs: " << trainer.num_epochs;
  }
  text << "\ndist_env:\n  backend: nccl\n  timeout_minutes: 30\n"
       << "rng:\n  _target_: nemo_automodel.components.training.rng.StatefulRNG\n  seed: "
       << trainer.packing.seed << "\n  ranked: true\n"
       << "model:\n  _target_: nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained\n"
       << "  pretrained_model_name_or_path: " << quoted(options.model) << "\n"
       << "  backend:\n    _target_: nemo_automodel.components.models.common.BackendConfig\n"
       << "    rms_norm: torch_fp32\n    linear: torch\n";
  if (options.lora != nullptr) {
    text << "peft:\n  _target_: nemo_automodel.components._peft.lora.PeftConfig\n  exclude_modules: "
         << list(automodel_exclusions(options.lora->targets)) << "\n  dim: " << options.lora->rank
         << "\n  alpha: " << number(options.lora->alpha) << "\n  dropout: " << number(options.lora->dropout)
         << "\n  dropout_position: pre\n  use_triton: true\n";
  }
  text << "distributed:\n  strategy: fsdp2\n  dp_size: none\n  tp_size: 1\n  cp_size: 1\n  ep_size: "
       << kNumGpus << "\n  sequence_parallel: false\n"
       << "checkpoint:\n  enabled: true\n  checkpoint_dir: checkpoints\n  model_save_format: safetensors\n"
       << "  save_consolidated: true\n"
       << "loss_fn:\n  _target_: nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy\n"
       << "packed_sequence:\n  packed_sequence_size: 0\n";
  const auto dataset = [&](const char* prefix, const char* file, bool shuffle) {
    text << prefix << "dataset:\n"
         << "  _target_: nemo_automodel.components.datasets.llm.chat_dataset.ChatDataset\n"
         << "  path_or_dataset_id: " << file << "\n  seq_length: " << options.max_tokens
         << "\n  truncation: true\n  mask_generation_prompt: true\n"
         << prefix << "dataloader:\n  _target_: torchdata.stateful_dataloader.StatefulDataLoader\n"
         << "  collate_fn: nemo_automodel.components.datasets.utils.default_collater\n";
    if (shuffle) text << "  shuffle: true\n";
  };
  dataset("", "training.jsonl", true);
  if (has_validation) dataset("validation_", "validation.jsonl", false);
  text << "optimizer:\n  _target_: torch.optim.AdamW\n  lr: " << number(trainer.schedule.learning_rate)
       << "\n  betas: [" << number(trainer.adamw.beta1) << ", " << number(trainer.adamw.beta2)
       << "]\n  eps: " << number(trainer.adamw.epsilon)
       << "\n  weight_decay: " << number(trainer.adamw.weight_decay) << "\n"
       << "lr_scheduler:\n  lr_decay_style: " << decay_name(trainer.schedule.decay)
       << "\n  lr_warmup_steps: " << trainer.schedule.num_warmup_steps
       << "\n  min_lr: " << number(trainer.schedule.learning_rate * trainer.schedule.final_fraction) << "\n";
  return text.str();
}

// Of an engine that counts no epochs and packs documents to the sequence length.
int64_t count_iterations(const RecipeOptions& options, const SftDataset& training) {
  TrainerOptions trainer = options.trainer;
  trainer.packing.micro_batch_tokens = options.max_tokens;
  trainer.packing.grad_accum = global_batch_size(options);
  return count_steps(training.documents, trainer);
}

std::string bridge_recipe(const RecipeOptions& options, int64_t num_iterations, bool has_validation) {
  const TrainerOptions& trainer = options.trainer;
  const bool is_lora = options.lora != nullptr;
  const std::string recipe =
      is_lora ? "nemotron_3_nano_peft_8gpu_h100_bf16_config" : "nemotron_3_nano_sft_8gpu_h100_bf16_config";
  std::ostringstream text;
  text << "\"\"\"Written by nemoforge finetune --export megatron-bridge. Once, to convert the checkpoint:\n\n"
       << "    python -c 'from megatron.bridge import AutoBridge as A; A.import_ckpt(hf_model_id="
       << quoted(options.model) << ", megatron_path=\"megatron_checkpoint\")'\n\n"
       << "then on every node: torchrun --nproc_per_node=" << kNumGpus << " recipe.py\n\"\"\"\n\n"
       << "from pathlib import Path\n\n"
       << "from megatron.bridge.data.builders.gpt_sft import GPTSFTDatasetConfig\n"
       << "from megatron.bridge.data.datasets.packed_sequence import PackedSequenceSpecs\n"
       << "from megatron.bridge.data.sft_processing import ChatSFTPreprocessingConfig\n";
  if (is_lora) text << "from megatron.bridge.peft.lora import LoRA\n";
  text << "from megatron.bridge.recipes.nemotronh.h100.nemotron_3_nano import " << recipe << "\n"
       << "from megatron.bridge.training.finetune import finetune\n"
       << "from megatron.bridge.training.gpt_step import forward_step\n\n"
       << "HERE = Path(__file__).resolve().parent\n\n\ndef config():\n";
  if (is_lora) {
    text << "    cfg = " << recipe
         << "(\n        LoRA(target_modules=" << list(bridge_targets(options.lora->targets))
         << ", dim=" << options.lora->rank << ", alpha=" << number(options.lora->alpha)
         << ", dropout=" << number(options.lora->dropout) << ", dropout_position=\"pre\")\n    )\n";
  } else {
    text << "    cfg = " << recipe << "()\n";
  }
  text << "    cfg.tokenizer.tokenizer_model = " << quoted(options.model) << "\n"
       << "    cfg.model.seq_length = " << options.max_tokens << "\n"
       << "    cfg.dataset = GPTSFTDatasetConfig(\n        seq_length=" << options.max_tokens
       << ",\n        dataset_root=HERE,\n"
       << "        preprocessing=ChatSFTPreprocessingConfig(loss_mode=\"assistant\"),\n"
       << "        enable_offline_packing=True,\n"
       << "        offline_packing_specs=PackedSequenceSpecs(packed_sequence_size=" << options.max_tokens
       << "),\n        do_validation=" << (has_validation ? "True" : "False")
       << ",\n        do_test=False,\n        seed=" << trainer.packing.seed << ",\n    )\n"
       << "    cfg.train.train_iters = " << num_iterations << "\n"
       << "    cfg.train.global_batch_size = " << global_batch_size(options) << "\n"
       << "    cfg.train.micro_batch_size = 1\n"
       << "    cfg.optimizer.lr = " << number(trainer.schedule.learning_rate)
       << "\n    cfg.optimizer.min_lr = "
       << number(trainer.schedule.learning_rate * trainer.schedule.final_fraction) << "\n"
       << "    cfg.optimizer.adam_beta1 = " << number(trainer.adamw.beta1) << "\n"
       << "    cfg.optimizer.adam_beta2 = " << number(trainer.adamw.beta2) << "\n"
       << "    cfg.optimizer.adam_eps = " << number(trainer.adamw.epsilon) << "\n"
       << "    cfg.optimizer.clip_grad = " << number(trainer.max_grad_norm) << "\n"
       << "    cfg.optimizer.weight_decay = " << number(trainer.adamw.weight_decay) << "\n"
       << "    cfg.scheduler.start_weight_decay = " << number(trainer.adamw.weight_decay) << "\n"
       << "    cfg.scheduler.end_weight_decay = " << number(trainer.adamw.weight_decay) << "\n"
       << "    cfg.scheduler.lr_decay_style = \"" << decay_name(trainer.schedule.decay) << "\"\n"
       << "    cfg.scheduler.lr_warmup_iters = " << trainer.schedule.num_warmup_steps << "\n"
       << "    cfg.checkpoint.pretrained_checkpoint = str(HERE / \"megatron_checkpoint\")\n"
       << "    cfg.checkpoint.save = str(HERE / \"checkpoints\")\n"
       << "    cfg.checkpoint.save_interval = " << std::max<int64_t>(1, trainer.save_every) << "\n"
       << "    cfg.rng.seed = " << trainer.packing.seed << "\n    return cfg\n\n\n"
       << "if __name__ == \"__main__\":\n    finetune(config=config(), forward_step_func=forward_step)\n";
  return text.str();
}

// The lines that the dataset kept.
Status write_rows(const std::string& path, const std::string& source, const SftDataset& dataset) {
  NF_TRY(const std::string text, io::read_file(source, kMaxFileBytes));
  const std::set<int64_t> wanted(dataset.lines.begin(), dataset.lines.end());
  std::istringstream lines(text);
  std::string rows;
  int64_t line_idx = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!wanted.contains(++line_idx)) continue;
    NF_TRY(io::Json row, io::parse_json(line));
    for (io::Json& message : row["messages"]) {
      if (!message.contains("content") || message["content"].is_null()) message["content"] = "";
    }
    rows += io::dump_json(row) + "\n";
  }
  return io::write_file_atomically(path, rows);
}

}  // namespace

Status write_recipe(const std::string& out, const std::string& data_path, const SftDataset& training,
                    const SftDataset* evaluation, const std::string& evaluation_path,
                    const RecipeOptions& options) {
  if (options.lora != nullptr && options.lora->use_rslora) {
    return error(ErrorCode::kUnsupported, "neither engine scales adapters by alpha / sqrt(rank)",
                 "leave out --rslora and give --alpha times sqrt(rank)");
  }
  const auto in_folder = [&](const char* name) { return (fs::path(out) / name).string(); };
  NF_RETURN_IF_ERROR(write_rows(in_folder("training.jsonl"), data_path, training));
  if (evaluation != nullptr) {
    NF_RETURN_IF_ERROR(write_rows(in_folder("validation.jsonl"), evaluation_path, *evaluation));
  }
  const bool has_validation = evaluation != nullptr;
  return options.engine == RecipeEngine::kNemoAutomodel
             ? io::write_file_atomically(in_folder("recipe.yaml"), automodel_recipe(options, has_validation))
             : io::write_file_atomically(
                   in_folder("recipe.py"),
                   bridge_recipe(options, count_iterations(options, training), has_validation));
}

}  // namespace nemoforge::train
