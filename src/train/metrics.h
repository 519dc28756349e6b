// The course of a training run as JSON Lines.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/json.h"
#include "train/agreement.h"
#include "train/trainer.h"

namespace nemoforge::train {

// A file with one object for each step ({"step", "time", "epoch", "loss", "grad_norm", "learning_rate",
// "num_tokens", "num_targets", "tokens_per_s"}) and for each evaluation ({"step", "time", "eval_loss",
// "num_targets"}), and at the end of the run for what serving makes of it ({"step", "time", "serving_kl",
// "serving_logprob_difference", "serving_num_tokens"}), "step" counted in steps done, "time" in seconds since
// 1970. Lines are appended as they come, so that others can follow.
class MetricsFile {
 public:
  explicit MetricsFile(std::string path) : path_(std::move(path)) {}

  // Keeps what an earlier process wrote of the first `num_steps_done` steps and drops the rest: a run that
  // goes on from a save does the later steps again.
  [[nodiscard]] Status begin(int64_t num_steps_done);
  [[nodiscard]] Status add(const StepReport& report);
  [[nodiscard]] Status add(const EvaluationReport& report);
  [[nodiscard]] Status add(int64_t num_steps_done, const Agreement& agreement);

 private:
  Status append(std::string_view line);

  std::string path_;
};

// The objects of a metrics file, without a last line that was cut off; none where there is no file.
[[nodiscard]] Result<std::vector<io::Json>> read_metrics(const std::string& path);

}  // namespace nemoforge::train
