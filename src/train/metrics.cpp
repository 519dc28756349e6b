#include "train/metrics.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json.h"

namespace nemoforge::train {

namespace {

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

Result<std::vector<io::Json>> read_metrics(const std::string& path) {
  std::vector<io::Json> rows;
  if (!std::filesystem::exists(path)) return rows;
  NF_TRY(const std::string text, io::read_file(path));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // a line that was cut off
    NF_TRY(io::Json row, io::parse_json(std::string_view(text).substr(begin, end - begin)));
    rows.push_back(std::move(row));
    begin = end + 1;
  }
  return rows;
}

Status MetricsFile::begin(int64_t num_steps_done) {
  std::string kept;
  if (num_steps_done > 0) {
    NF_TRY(const std::vector<io::Json> rows, read_metrics(path_));
    for (const io::Json& row : rows) {
      // What was measured at the save is measured again.
      const int64_t first_dropped = row.contains("loss") ? num_steps_done + 1 : num_steps_done;
      if (row.value("step", int64_t{0}) < first_dropped) kept += io::dump_json(row) + "\n";
    }
  }
  return io::write_file_atomically(path_, kept);
}

Status MetricsFile::add(const StepReport& report) {
  const double rate = report.duration_s > 0 ? static_cast<double>(report.num_rows) / report.duration_s : 0.0;
  return append(io::dump_json({{"step", report.step + 1},
                               {"time", seconds_since_1970()},
                               {"epoch", report.epoch},
                               {"loss", report.loss},
                               {"grad_norm", report.grad_norm},
                               {"learning_rate", report.learning_rate},
                               {"num_tokens", report.num_rows},
                               {"num_targets", report.num_targets},
                               {"tokens_per_s", rate}}));
}

Status MetricsFile::add(const EvaluationReport& report) {
  return append(io::dump_json({{"step", report.num_steps_done},
                               {"time", seconds_since_1970()},
                               {"eval_loss", report.loss},
                               {"num_targets", report.num_targets}}));
}

Status MetricsFile::add(int64_t num_steps_done, const Agreement& agreement) {
  return append(io::dump_json({{"step", num_steps_done},
                               {"time", seconds_since_1970()},
                               {"serving_kl", agreement.mean_kl},
                               {"serving_logprob_difference", agreement.max_logprob_difference},
                               {"serving_num_tokens", agreement.num_tokens}}));
}

Status MetricsFile::append(std::string_view line) {
  std::ofstream file(path_, std::ios::app);
  file << line << '\n';
  file.flush();
  if (!file) return error(ErrorCode::kIo, "cannot write to " + path_);
  return {};
}

}  // namespace nemoforge::train
