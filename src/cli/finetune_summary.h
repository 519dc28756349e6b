// What `nemoforge finetune` says before it starts: the data, what trains, the memory that it takes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "train/adamw.h"
#include "train/sft_dataset.h"
#include "train/trainable_model.h"

namespace nemoforge::cli {

[[nodiscard]] std::string data_summary(const train::SftDataset& training,
                                       const std::optional<train::SftDataset>& evaluation);

// What trains, by module class.
[[nodiscard]] std::string parameter_summary(const train::ParameterSet& set);

// Bytes by part for passes of `num_rows` rows, before anything of that size has been allocated. `lora`: null
// for full training; `checkpoint_bytes` of the base as it is stored.
[[nodiscard]] std::string memory_plan(train::TrainableModel& model, const train::LoraOptions* lora,
                                      train::MomentFormat moments, int64_t num_rows,
                                      int64_t checkpoint_bytes);

// kResourceExhausted where the device has less memory left, once the model is there, than moments and passes
// of `num_rows` rows take.
[[nodiscard]] Status check_memory(train::TrainableModel& model, const train::LoraOptions* lora,
                                  train::MomentFormat moments, int64_t num_rows);

}  // namespace nemoforge::cli
