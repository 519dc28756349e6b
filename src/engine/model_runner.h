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
#include "ops/token_choice/token_choice.h"

namespace nemoforge::engine {

// Rows of a step's logits.
struct LogitRows {
  int64_t first = 0;
  int64_t count = 0;
};

// Turns a scheduled step into the model's batch. Of one thread at a time.
class ModelRunner {
 public:
  // What the caches of `model` take.
  [[nodiscard]] static CacheCost cache_cost(const model::Model& model, int64_t block_size);

  // Allocates the caches. `model` outlives the runner.
  [[nodiscard]] static Result<std::unique_ptr<ModelRunner>> create(model::Model& model,
                                                                   const SchedulerConfig& limits);

  void copy(std::span<const CacheCopy> copies);

  // Passes the sequences' tokens through the model. Returns for each of `work` the rows of logits of all its
  // tokens where it scores_prompt(), else of its last one where it needs_logits() (for the others: none, or a
  // row to ignore). They stay until the next call.
  [[nodiscard]] std::vector<LogitRows> forward(std::span<const ScheduledSequence> work);

  // [rows.count, vocab] in host memory, until the next forward().
  [[nodiscard]] std::span<const float> host_logits(LogitRows rows);

  // Whether choose() works; elsewhere the host reads the logits.
  [[nodiscard]] bool chooses_tokens() const { return model_.backend().chooses_tokens(); }
  // Chooses a token from every row of the last forward(): both spans have num_rows() entries.
  void choose(std::span<const ops::TokenChoiceRow> rows, std::span<ops::ChosenToken> out);
  [[nodiscard]] int64_t num_rows() const { return logits_ ? logits_.size(0) : 0; }

 private:
  ModelRunner(model::Model& model, model::ModelCaches caches) : model_(model), caches_(std::move(caches)) {}

  void copy_row(const TensorView& cache, int32_t from, int32_t to);

  model::Model& model_;
  model::ModelCaches caches_;
  model::Batch batch_;
  ConstTensorView logits_;          // of the last forward(), in the backend's memory
  std::vector<float> host_logits_;  // those of its rows that is_on_host_; where the memory is not the host's
  std::vector<bool> is_on_host_;
};

}  // namespace nemoforge::engine
