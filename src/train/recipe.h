// The run as data and recipe for the engines that train on several nodes.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "train/trainable_model.h"
#include "train/trainer.h"

namespace nemoforge::train {

enum class RecipeEngine { kNemoAutomodel, kMegatronBridge };

struct RecipeOptions {
  RecipeEngine engine = RecipeEngine::kNemoAutomodel;
  std::string model;        // of the hub, or a folder that all nodes see
  const LoraOptions* lora;  // null: full
  TrainerOptions
      trainer;  // schedule, optimizer and seed are taken over; grad_accum: documents or packs a step
  int64_t max_tokens = 4096;  // of a document
};

// Writes to the folder `out`, which exists:
//   kNemoAutomodel: training.jsonl, validation.jsonl and recipe.yaml, for `automodel recipe.yaml`;
//   kMegatronBridge: the same data and recipe.py, for `torchrun recipe.py`.
// The rows are those of `data_path` (chat JSON Lines) that `training` and `evaluation` (null: none) were made
// of, with an absent or null content as "": both engines would train on the word None. kUnsupported for what
// the engine lacks: rank-stabilised scaling. The sources of the forms stand in recipe.cpp.
[[nodiscard]] Status write_recipe(const std::string& out, const std::string& data_path,
                                  const SftDataset& training, const SftDataset* evaluation,
                                  const std::string& evaluation_path, const RecipeOptions& options);

}  // namespace nemoforge::train
