#include "train/metrics.h"

#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json.h"

namespace nemoforge::train {

Status MetricsFile::begin(int64_t num_steps_done) {
  std::string kept;
  if (num_steps_done > 0 && std::filesystem::exists(path_)) {
    NF_TRY(const std::string text, io::read_file(path_));
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      if (end == std::string::npos) break;  // a line that was cut off
      const std::string line = text.substr(begin, end - begin);
      begin = end + 1;
      NF_TRY(const io::Json row, io::parse_json(line));
      // The evaluation at the save is done again.
      const int64_t first_dropped = row.contains("eval_loss") ? num_steps_done : num_steps_done + 1;
      if (row.value("step", int64_t{0}) < first_dropped) kept += line + "\n";
    }
  }
  return io::write_file_atomically(path_, kept);
}

Status MetricsFile::add(const StepReport& report) {
  const double rate = report.duration_s > 0 ? static_cast<double>(report.num_rows) / report.duration_s : 0.0;
  return append(io::dump_json({{"step", report.step + 1},
                               {"epoch", report.epoch},
                               {"loss", report.loss},
                               {"grad_norm", report.grad_norm},
                               {"learning_rate", report.learning_rate},
                               {"num_tokens", report.num_rows},
                               {"num_targets", report.num_targets},
                               {"tokens_per_s", rate}}));
}

Status MetricsFile::add(const EvaluationReport& report) {
  return append(io::dump_json(
      {{"step", report.num_steps_done}, {"eval_loss", report.loss}, {"num_targets", report.num_targets}}));
}

Status MetricsFile::append(std::string_view line) {
  std::ofstream file(path_, std::ios::app);
  file << line << '\n';
  file.flush();
  if (!file) return error(ErrorCode::kIo, "cannot write to " + path_);
  return {};
}

}  // namespace nemoforge::train
