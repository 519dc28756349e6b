#include "train/initial_weights.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <initializer_list>
#include <optional>

#include <nlohmann/json.hpp>

#include "io/json.h"

namespace nemoforge::train {
namespace {

// The keys of config.json that say how a model begins; the first error stays.
class Reader {
 public:
  Reader(const io::Json& config, const std::string& path) : config_(config), path_(path) {}

  // A number above zero by the first of these names that is there.
  void positive(std::initializer_list<const char*> names, double& value) {
    for (const char* name : names) {
      const auto found = config_.find(name);
      if (found == config_.end()) continue;
      const double number = found->is_number() ? found->get<double>() : 0;
      if (!(number > 0 && std::isfinite(number))) {
        return fail(ErrorCode::kInvalidData,
                    std::string(name) + " is " + io::dump_json(*found) + ", not a number above 0");
      }
      value = number;
      return;
    }
  }
  void flag(const char* name, bool& value) {
    const auto found = config_.find(name);
    if (found == config_.end()) return;
    if (!found->is_boolean()) {
      return fail(ErrorCode::kInvalidData,
                  std::string(name) + " is " + io::dump_json(*found) + ", not true or false");
    }
    value = found->get<bool>();
  }
  void dtype(DType& value) {
    for (const char* name : {"dtype", "torch_dtype"}) {
      const auto found = config_.find(name);
      if (found == config_.end() || found->is_null()) continue;
      if (*found == "bfloat16") {
        value = DType::kBF16;
      } else if (*found == "float16") {
        value = DType::kF16;
      } else if (*found != "float32") {
        fail(ErrorCode::kUnsupported, std::string(name) + " is " + io::dump_json(*found) +
                                          ": a new checkpoint is float32, bfloat16 or float16");
      }
      return;
    }
  }
  void fail(ErrorCode code, const std::string& message) {
    if (status_) status_ = error(code, path_ + ": " + message);
  }
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  const io::Json& config_;
  const std::string& path_;
  Status status_;
};

// The values that softplus maps to the steps. Source: _init_weights, "inverse of softplus".
float draw_dt_bias(const Initialisation& initialisation, Rng& rng) {
  const double low = std::log(initialisation.time_step_min);
  const double high = std::log(initialisation.time_step_max);
  const double step = std::max(std::exp(rng.uniform() * (high - low) + low), initialisation.time_step_floor);
  return static_cast<float>(step + std::log(-std::expm1(-step)));
}

}  // namespace

Result<Initialisation> load_initialisation(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "config.json").string();
  NF_TRY(const io::Json config, io::read_json_file(path, {.allow_non_finite = true}));
  Initialisation result;
  Reader reader(config, path);
  reader.positive({"initializer_range"}, result.initializer_range);
  reader.flag("rescale_prenorm_residual", result.rescale_prenorm_residual);
  reader.positive({"mamba_dt_min", "time_step_min"}, result.time_step_min);
  reader.positive({"mamba_dt_max", "time_step_max"}, result.time_step_max);
  reader.positive({"mamba_dt_init_floor", "time_step_floor"}, result.time_step_floor);
  reader.dtype(result.dtype);
  if (result.time_step_min > result.time_step_max) {
    reader.fail(ErrorCode::kInvalidData, "time_step_min is above time_step_max");
  }
  NF_RETURN_IF_ERROR(reader.status());
  return result;
}

void draw_initial_weight(std::string_view name, const Shape& shape, const model::ModelConfig& config,
                         const Initialisation& initialisation, Rng& rng, std::span<float> values) {
  if (name.ends_with(".A_log")) {
    for (size_t head = 0; head < values.size(); ++head) {
      values[head] = std::log(static_cast<float>(head + 1));
    }
  } else if (name.ends_with(".D") || name.ends_with("norm.weight") || name.ends_with("norm_f.weight")) {
    std::ranges::fill(values, 1.0f);
  } else if (name.ends_with(".dt_bias")) {
    for (float& value : values) value = draw_dt_bias(initialisation, rng);
  } else if (name.ends_with(".bias") || name.ends_with(".e_score_correction_bias")) {
    std::ranges::fill(values, 0.0f);
  } else if (initialisation.rescale_prenorm_residual && name.ends_with(".mixer.out_proj.weight")) {
    const auto in_features = static_cast<double>(shape[1]);
    const double bound = 1 / std::sqrt(in_features * static_cast<double>(config.num_hidden_layers()));
    for (float& value : values) value = static_cast<float>((2 * rng.uniform() - 1) * bound);
  } else {
    for (float& value : values) value = static_cast<float>(rng.normal() * initialisation.initializer_range);
  }
}

}  // namespace nemoforge::train
