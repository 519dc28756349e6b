// The model and its caches, as the step loop uses them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/engine_config.h"
#include "engine/scheduler.h"
#include "model/batch.h"
#include "model/caches.h"
#include "model/model.h"

namespace nemoforge::engine {

// Turns a scheduled step into the model's batch. Of one thread at a time.
class ModelRunner {
 public:
  // What the caches of `model` take.
  [[nodiscard]] static CacheCost cache_cost(const model::Model& model, int64_t block_size);

  // Allocates the caches. `model` outlives the runner.
  [[nodiscard]] static Result<std::unique_ptr<ModelRunner>> create(model::Model& model,
                                                                   const SchedulerConfig& limits);

  void copy(std::span<const CacheCopy> copies);

  // Passes the sequences' tokens through the model. Returns for each of `work` the logits [rows, vocab] of
  // all its tokens where it scores_prompt(), else of its last one where it needs_logits() (for the others:
  // none, or a row to ignore), in host memory until the next call.
  [[nodiscard]] std::vector<std::span<const float>> forward(std::span<const ScheduledSequence> work);

 private:
  ModelRunner(model::Model& model, model::ModelCaches caches) : model_(model), caches_(std::move(caches)) {}

  [[nodiscard]] std::span<const float> to_host(const ConstTensorView& logits);
  void copy_row(const TensorView& cache, int32_t from, int32_t to);

  model::Model& model_;
  model::ModelCaches caches_;
  model::Batch batch_;
  std::vector<float> host_logits_;  // where the backend's memory is not the host's
};

}  // namespace nemoforge::engine
