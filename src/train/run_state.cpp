#include "train/run_state.h"

#include <vector>

#include <nlohmann/json.hpp>

#include "io/json.h"
#include "io/safetensors.h"
#include "train/host_copies.h"

namespace nemoforge::train {
namespace {

using io::Json;

constexpr const char* kProgressKey = "nemoforge_run";

Status restore(const io::SafetensorsFile& file, ops::Backend& backend, const std::string& name,
               const TensorView& target) {
  NF_TRY(const ConstTensorView stored, file.find(name));
  if (stored.dtype() != target.dtype() || !(stored.shape() == target.shape())) {
    return error(ErrorCode::kInvalidData,
                 file.path() + ": tensor \"" + name + "\" is " + std::string(dtype_name(stored.dtype())) +
                     " " + stored.shape().to_string() + ", the run has " +
                     std::string(dtype_name(target.dtype())) + " " + target.shape().to_string());
  }
  backend.upload(stored.raw(), target.raw(), target.numel() * dtype_bytes(target.dtype()));
  return {};
}

struct StateTensor {
  std::string name;
  TensorView view;
};

// What a run keeps of a parameter.
std::vector<StateTensor> state_of(const Parameter& parameter, Moments& moments) {
  std::vector<StateTensor> tensors = {{"value/" + parameter.name, parameter.value},
                                      {"m/" + parameter.name, moments.m.view()},
                                      {"v/" + parameter.name, moments.v.view()}};
  if (moments.m.view().dtype() != DType::kF32) {
    tensors.push_back({"m_scale/" + parameter.name, moments.m_scale.view()});
    tensors.push_back({"v_scale/" + parameter.name, moments.v_scale.view()});
  }
  return tensors;
}

Status check_settings(const std::string& path, const std::string& stored_text, const std::string& text) {
  if (stored_text == text) return {};
  NF_TRY(const Json stored, io::parse_json(stored_text));
  NF_TRY(const Json given, io::parse_json(text));
  for (const auto& [key, value] : given.items()) {
    const Json before = stored.value(key, Json());
    if (before == value) continue;
    return error(ErrorCode::kInvalidArgument,
                 path + ": the run was started with " + key + " " + io::dump_json(before) + ", not " +
                     io::dump_json(value),
                 "give the settings it was started with, or another --out");
  }
  return error(ErrorCode::kInvalidArgument, path + ": the run was started with other settings");
}

}  // namespace

Status write_run_state(const std::string& path, ops::Backend& backend, const ParameterSet& set,
                       AdamW& optimizer, const RunProgress& progress) {
  HostCopies copies(backend);
  std::vector<io::NamedTensor> tensors;
  for (size_t i = 0; i < set.parameters.size(); ++i) {
    for (const StateTensor& tensor : state_of(set.parameters[i], optimizer.moments()[i])) {
      tensors.push_back({tensor.name, copies.of(tensor.view)});
    }
  }
  const Json json = {{"num_steps_done", progress.num_steps_done},
                     {"first_loss", progress.first_loss},
                     {"num_tokens_done", progress.num_tokens_done},
                     {"settings", progress.settings}};
  return io::write_safetensors(path, tensors, {{kProgressKey, io::dump_json(json)}});
}

Result<RunProgress> read_run_state(const std::string& path, ops::Backend& backend, ParameterSet& set,
                                   AdamW& optimizer, const std::string& settings) {
  NF_TRY(const io::SafetensorsFile file, io::SafetensorsFile::open(path));
  const auto found = file.metadata().find(kProgressKey);
  if (found == file.metadata().end()) {
    return error(ErrorCode::kInvalidData, path + " is not the state of a training run");
  }
  NF_TRY(const Json json, io::parse_json(found->second));
  const auto is_number = [&](const char* key) { return json.contains(key) && json[key].is_number(); };
  if (!json.is_object() || !is_number("num_steps_done") || !is_number("first_loss") ||
      !is_number("num_tokens_done") || !json.value("settings", Json()).is_string()) {
    return error(ErrorCode::kInvalidData, path + ": its progress is incomplete");
  }
  RunProgress progress;
  progress.num_steps_done = json["num_steps_done"].get<int64_t>();
  progress.first_loss = json["first_loss"].get<double>();
  progress.num_tokens_done = json["num_tokens_done"].get<int64_t>();
  progress.settings = json["settings"].get<std::string>();
  NF_RETURN_IF_ERROR(check_settings(path, progress.settings, settings));
  for (size_t i = 0; i < set.parameters.size(); ++i) {
    for (const StateTensor& tensor : state_of(set.parameters[i], optimizer.moments()[i])) {
      NF_RETURN_IF_ERROR(restore(file, backend, tensor.name, tensor.view));
    }
  }
  return progress;
}

}  // namespace nemoforge::train
