// The training loop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "train/adamw.h"
#include "train/packing.h"
#include "train/run_state.h"
#include "train/schedule.h"
#include "train/sft_dataset.h"
#include "train/trainable_model.h"

namespace nemoforge::train {

struct TrainerOptions {
  PackingOptions packing;
  AdamWOptions adamw;
  Schedule schedule;         // num_steps is set by the trainer
  double max_grad_norm = 1;  // gradients are scaled down to this norm; 0: never
  int64_t num_epochs = 1;    // where max_steps is absent
  std::optional<int64_t> max_steps;
  int64_t eval_every = 0;   // steps; 0: before the first step and after the last only
  int64_t save_every = 50;  // steps; 0: at the end only
  std::string state_path;   // of the run's state
  std::string settings;     // what else the bits depend on (model, method), as a JSON object
};

// After a step.
struct StepReport {
  int64_t step = 0;  // from 0
  int64_t num_steps = 0;
  int64_t epoch = 0;
  double loss = 0;  // mean over the step's targets, nats
  double grad_norm = 0;
  double learning_rate = 0;
  int64_t num_rows = 0;     // of the step
  int64_t num_targets = 0;  // of the step
  double duration_s = 0;
};

struct EvaluationReport {
  int64_t num_steps_done = 0;
  double loss = 0;  // mean over the targets
  int64_t num_targets = 0;
};

struct TrainerEvents {
  std::function<Status(int64_t num_steps_done)> begin;  // 0, or where a resumed run goes on
  std::function<Status(const StepReport&)> step;
  std::function<Status(const EvaluationReport&)> evaluation;
  std::function<void(int64_t num_steps_done)> saved;
  std::function<bool()> should_stop;  // asked between steps
};

struct TrainingReport {
  int64_t num_steps_done = 0;
  int64_t num_steps = 0;
  int64_t num_tokens_done = 0;
  bool interrupted = false;
  std::optional<double> first_eval_loss;  // of this process
  std::optional<double> last_eval_loss;
};

// The number of steps that `options` and the data make.
[[nodiscard]] int64_t count_steps(const std::vector<SftDocument>& documents, const TrainerOptions& options);

// Trains `model` on `training`. The loss of a step is the mean over the targets of all its micro-batches, so
// that packing and accumulation do not change what is learnt. With `resume`, goes on from the state at
// options.state_path where there is one: every later step has the bits of an unbroken run. The state is saved
// every save_every steps, at the end, and when it is interrupted.
// An event's error ends the run. kInvalidData where a loss or gradient is not finite or the loss diverges
// (the state of the last save stays).
[[nodiscard]] Result<TrainingReport> train(TrainableModel& model, const SftDataset& training,
                                           const SftDataset* evaluation, const TrainerOptions& options,
                                           bool resume, const TrainerEvents& events);

}  // namespace nemoforge::train
