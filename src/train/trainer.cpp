#include "train/trainer.h"

#include <chrono>
#include <cmath>
#include <filesystem>
#include <utility>

#include <nlohmann/json.hpp>

#include "io/json.h"

namespace nemoforge::train {
namespace {

// A loss this many times the first one plus one nat, for so many steps in a row, is called divergence: a run
// that forgets everything ends at ln(vocab_size), which a finetuned model's first loss is far below.
constexpr double kDivergenceFactor = 3;
constexpr int kDivergenceSteps = 5;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

const char* decay_name(Decay decay) {
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

// Everything that the bits of a run depend on.
Result<std::string> effective_settings(const TrainerOptions& options, const SftDataset& training) {
  io::Json settings = io::Json::object();
  if (!options.settings.empty()) {
    NF_TRY(settings, io::parse_json(options.settings));
  }
  settings["data"] = training.hash;
  settings["num_documents"] = training.documents.size();
  settings["micro_batch_tokens"] = options.packing.micro_batch_tokens;
  settings["grad_accum"] = options.packing.grad_accum;
  settings["seed"] = options.packing.seed;
  settings["num_steps"] = options.schedule.num_steps;
  settings["learning_rate"] = options.schedule.learning_rate;
  settings["schedule"] = decay_name(options.schedule.decay);
  settings["num_warmup_steps"] = options.schedule.num_warmup_steps;
  settings["final_fraction"] = options.schedule.final_fraction;
  settings["max_grad_norm"] = options.max_grad_norm;
  settings["optimizer"] = optimizer_name(options.adamw.moments);
  settings["weight_decay"] = options.adamw.weight_decay;
  settings["beta1"] = options.adamw.beta1;
  settings["beta2"] = options.adamw.beta2;
  settings["epsilon"] = options.adamw.epsilon;
  return io::dump_json(settings);
}

// Which step of which epoch a step of the run is.
class StepPlans {
 public:
  StepPlans(const std::vector<SftDocument>& documents, const PackingOptions& options)
      : documents_(documents), options_(options), plans_(plan_epoch(documents, 0, options)) {}

  // Steps are asked for in ascending order.
  const StepPlan& at(int64_t step) {
    while (step - first_step_ >= static_cast<int64_t>(plans_.size())) {
      first_step_ += static_cast<int64_t>(plans_.size());
      plans_ = plan_epoch(documents_, ++epoch_, options_);
    }
    return plans_[static_cast<size_t>(step - first_step_)];
  }
  [[nodiscard]] int64_t epoch() const { return epoch_; }

 private:
  const std::vector<SftDocument>& documents_;
  PackingOptions options_;
  int64_t epoch_ = 0;
  int64_t first_step_ = 0;  // of the epoch
  std::vector<StepPlan> plans_;
};

class Trainer {
 public:
  Trainer(TrainableModel& model, const SftDataset& training, const SftDataset* evaluation,
          TrainerOptions options, AdamW optimizer, const TrainerEvents& events)
      : model_(model),
        training_(training),
        evaluation_(evaluation),
        options_(std::move(options)),
        events_(events),
        optimizer_(std::move(optimizer)),
        plans_(training.documents, options_.packing) {
    report_.num_steps = options_.schedule.num_steps;
  }

  Result<TrainingReport> run(bool resume) {
    NF_TRY(progress_.settings, effective_settings(options_, training_));
    if (resume && std::filesystem::exists(options_.state_path)) {
      NF_TRY(progress_, read_run_state(options_.state_path, model_.backend(), model_.parameters(), optimizer_,
                                       progress_.settings));
      model_.values_changed();
    }
    if (events_.begin) NF_RETURN_IF_ERROR(events_.begin(progress_.num_steps_done));
    NF_RETURN_IF_ERROR(evaluate());
    while (progress_.num_steps_done < report_.num_steps) {
      if (events_.should_stop && events_.should_stop()) {
        report_.interrupted = true;
        break;
      }
      NF_RETURN_IF_ERROR(step());
      const int64_t done = progress_.num_steps_done;
      const bool is_last = done == report_.num_steps;
      if (is_last || is_due(options_.eval_every)) NF_RETURN_IF_ERROR(evaluate());
      if (!is_last && is_due(options_.save_every)) NF_RETURN_IF_ERROR(save());
    }
    NF_RETURN_IF_ERROR(save());
    report_.num_steps_done = progress_.num_steps_done;
    report_.num_tokens_done = progress_.num_tokens_done;
    return report_;
  }

 private:
  [[nodiscard]] bool is_due(int64_t every) const {
    return every > 0 && progress_.num_steps_done % every == 0;
  }

  Status save() {
    NF_RETURN_IF_ERROR(
        write_run_state(options_.state_path, model_.backend(), model_.parameters(), optimizer_, progress_));
    if (events_.saved) events_.saved(progress_.num_steps_done);
    return {};
  }

  // The gradients of the mean loss over all micro-batches; fills in the step's sums.
  Status accumulate(const StepPlan& plan, StepReport& report) {
    std::vector<TrainBatch> batches;
    for (const std::vector<int64_t>& micro_batch : plan) {
      batches.push_back(make_train_batch(training_.documents, micro_batch));
      batches.back().pass_idx =
          report.step * options_.packing.grad_accum + static_cast<int64_t>(batches.size()) - 1;
      report.num_rows += batches.back().num_rows();
      for (const int32_t target : batches.back().targets) report.num_targets += target >= 0 ? 1 : 0;
    }
    model_.zero_gradients();
    const auto scale = static_cast<float>(1.0 / static_cast<double>(report.num_targets));
    double sum = 0;
    for (const TrainBatch& batch : batches) {
      NF_TRY(const LossSum loss, model_.accumulate_gradients(batch, scale));
      sum += loss.loss;
    }
    report.loss = sum / static_cast<double>(report.num_targets);
    return {};
  }

  Status step() {
    const auto start = std::chrono::steady_clock::now();
    StepReport report;
    report.step = progress_.num_steps_done;
    report.num_steps = report_.num_steps;
    const StepPlan& plan = plans_.at(report.step);
    report.epoch = plans_.epoch();
    NF_RETURN_IF_ERROR(accumulate(plan, report));
    report.grad_norm = optimizer_.gradient_norm(model_.parameters());
    NF_RETURN_IF_ERROR(check_health(report));
    report.learning_rate = options_.schedule.rate(report.step);
    const bool clips = options_.max_grad_norm > 0 && report.grad_norm > options_.max_grad_norm;
    const double grad_scale = clips ? options_.max_grad_norm / report.grad_norm : 1.0;
    optimizer_.update(model_.parameters(), report.step, report.learning_rate, grad_scale);
    ++progress_.num_steps_done;
    progress_.num_tokens_done += report.num_rows;
    report.duration_s = seconds_since(start);
    if (events_.step) NF_RETURN_IF_ERROR(events_.step(report));
    return {};
  }

  // Before the values change, so that a save never holds a broken step.
  Status check_health(const StepReport& report) {
    const std::string where = "step " + std::to_string(report.step);
    const std::string hint = std::string("lower --learning-rate, or lengthen --warmup-steps; ") +
                             (std::filesystem::exists(options_.state_path) ? "the state last saved is intact"
                                                                           : "no state was saved yet");
    if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
      return error(ErrorCode::kInvalidData,
                   where + ": the " + (std::isfinite(report.loss) ? "norm of the gradients" : "loss") +
                       " is not finite",
                   hint);
    }
    if (report.step == 0) progress_.first_loss = report.loss;
    const double limit = kDivergenceFactor * progress_.first_loss + 1;
    num_diverging_steps_ = report.loss > limit ? num_diverging_steps_ + 1 : 0;
    if (num_diverging_steps_ < kDivergenceSteps) return {};
    return error(ErrorCode::kInvalidData,
                 where + ": training diverges, the loss is " + std::to_string(report.loss) + " after " +
                     std::to_string(progress_.first_loss) + " at the first step, for " +
                     std::to_string(kDivergenceSteps) + " steps above " + std::to_string(limit),
                 hint);
  }

  Status evaluate() {
    if (evaluation_ == nullptr) return {};
    EvaluationReport report;
    report.num_steps_done = progress_.num_steps_done;
    double sum = 0;
    for (const auto& micro_batch :
         plan_evaluation(evaluation_->documents, options_.packing.micro_batch_tokens)) {
      NF_TRY(const LossSum loss, model_.evaluate(make_train_batch(evaluation_->documents, micro_batch)));
      sum += loss.loss;
      report.num_targets += loss.num_targets;
    }
    report.loss = sum / static_cast<double>(report.num_targets);
    if (!report_.first_eval_loss) report_.first_eval_loss = report.loss;
    report_.last_eval_loss = report.loss;
    if (events_.evaluation) NF_RETURN_IF_ERROR(events_.evaluation(report));
    return {};
  }

  TrainableModel& model_;
  const SftDataset& training_;
  const SftDataset* evaluation_;
  TrainerOptions options_;
  const TrainerEvents& events_;
  AdamW optimizer_;
  StepPlans plans_;
  RunProgress progress_;
  TrainingReport report_;
  int num_diverging_steps_ = 0;
};

}  // namespace

int64_t count_steps(const std::vector<SftDocument>& documents, const TrainerOptions& options) {
  if (options.max_steps) return *options.max_steps;
  int64_t count = 0;
  for (int64_t epoch = 0; epoch < options.num_epochs; ++epoch) {
    count += static_cast<int64_t>(plan_epoch(documents, epoch, options.packing).size());
  }
  return count;
}

Result<TrainingReport> train(TrainableModel& model, const SftDataset& training, const SftDataset* evaluation,
                             const TrainerOptions& options, bool resume, const TrainerEvents& events) {
  TrainerOptions effective = options;
  effective.schedule.num_steps = count_steps(training.documents, options);
  NF_TRY(AdamW optimizer, AdamW::on(model.backend(), model.parameters(), options.adamw));
  return Trainer(model, training, evaluation, std::move(effective), std::move(optimizer), events).run(resume);
}

}  // namespace nemoforge::train
