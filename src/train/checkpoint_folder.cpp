#include "train/checkpoint_folder.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "io/file.h"
#include "io/safetensors.h"
#include "io/safetensors_folder.h"
#include "model/convert.h"
#include "tensor/buffer.h"

namespace nemoforge::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTensorFile = "model.safetensors";

// What stands beside the weights: configuration, tokenizer, template, and the modelling code of the hub.
bool is_companion(const fs::path& path) {
  constexpr std::array<std::string_view, 4> kExtensions = {".json", ".jinja", ".py", ".model"};
  const std::string name = path.filename().string();
  if (name.ends_with(".safetensors.index.json")) return false;
  return std::find(kExtensions.begin(), kExtensions.end(), path.extension().string()) != kExtensions.end();
}

Status copy_companions(const std::string& source, const std::string& out) {
  std::error_code failure;
  fs::create_directories(out, failure);
  if (failure) return error(ErrorCode::kIo, "cannot make the folder " + out + ": " + failure.message());
  if (fs::equivalent(source, out, failure)) {
    return error(ErrorCode::kInvalidArgument, out + " is the folder of the checkpoint itself",
                 "give --out another folder");
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(source, failure)) {
    if (!entry.is_regular_file() || !is_companion(entry.path())) continue;
    NF_TRY(const std::string text, io::read_file(entry.path().string()));
    NF_RETURN_IF_ERROR(io::write_file_atomically((fs::path(out) / entry.path().filename()).string(), text));
  }
  if (failure) return error(ErrorCode::kIo, "cannot list " + source + ": " + failure.message());
  return {};
}

// The hub's name of a tensor; of the first expert where one tensor holds them all.
std::string hub_name(std::string_view name) {
  constexpr std::string_view kTransformers5 = "model.";
  if (name.starts_with(kTransformers5)) {
    return "backbone." + std::string(name.substr(kTransformers5.size()));
  }
  return std::string(name);
}

std::optional<std::string> expert_name(std::string_view fused, int64_t expert) {
  constexpr std::string_view kExperts = ".mixer.experts.";
  const size_t at = fused.rfind(kExperts);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view projection = fused.substr(at + kExperts.size());
  if (projection != "up_proj" && projection != "down_proj") return std::nullopt;
  return std::string(fused.substr(0, at + kExperts.size())) + std::to_string(expert) + "." +
         std::string(projection) + ".weight";
}

Status write_tensor(const ConstTensorView& tensor, io::SafetensorsWriter& writer) {
  return writer.write({static_cast<const std::byte*>(tensor.raw()),
                       static_cast<size_t>(tensor.numel() * dtype_bytes(tensor.dtype()))});
}

// The recurrence and the choice of experts, which rounding hurts most.
bool stays_f32(std::string_view name) {
  constexpr std::array<std::string_view, 5> kSuffixes = {".A_log", ".D", ".dt_bias", ".gate.weight",
                                                         ".e_score_correction_bias"};
  return std::ranges::any_of(kSuffixes, [&](std::string_view suffix) { return name.ends_with(suffix); });
}

class Editor {
 public:
  Editor(const IsEdited& is_edited, const EditTensor& edit) : is_edited_(is_edited), edit_(edit) {}

  Status copy(const std::string& stored_name, const ConstTensorView& tensor, io::SafetensorsWriter& writer) {
    const std::string name = hub_name(stored_name);
    if (tensor.shape().rank() == 3 && expert_name(name, 0)) {
      for (int64_t expert = 0; expert < tensor.size(0); ++expert) {
        NF_RETURN_IF_ERROR(copy_one(*expert_name(name, expert), tensor.rows(expert, 1), writer));
      }
      return {};
    }
    return copy_one(name, tensor, writer);
  }

 private:
  Status copy_one(const std::string& name, const ConstTensorView& tensor, io::SafetensorsWriter& writer) {
    if (!is_edited_(name)) return write_tensor(tensor, writer);
    if (!model::is_dense_float(tensor.dtype())) {
      return error(ErrorCode::kUnsupported, "tensor \"" + name + "\" is " +
                                                std::string(dtype_name(tensor.dtype())) +
                                                ": only F32, BF16 and F16 weights can be changed");
    }
    Tensor values = make_host_tensor(DType::kF32, tensor.shape());
    model::convert_elements(tensor, values.view());
    NF_RETURN_IF_ERROR(
        edit_(name, {values.view().data<float>(), static_cast<size_t>(values.view().numel())}));
    Tensor rounded = make_host_tensor(tensor.dtype(), tensor.shape());
    model::convert_elements(values.view(), rounded.view());
    return write_tensor(rounded.view(), writer);
  }

  const IsEdited& is_edited_;
  const EditTensor& edit_;
};

}  // namespace

Status write_checkpoint(const std::string& source, const std::string& out, const IsEdited& is_edited,
                        const EditTensor& edit) {
  NF_TRY(const io::SafetensorsFolder folder, io::SafetensorsFolder::open(source));
  NF_RETURN_IF_ERROR(copy_companions(source, out));
  std::vector<io::TensorSpec> specs;
  for (const auto& [name, entry] : folder.tensors()) {
    specs.push_back({name, entry.tensor.dtype(), entry.tensor.shape()});
  }
  NF_TRY(io::SafetensorsWriter writer,
         io::SafetensorsWriter::create((fs::path(out) / kTensorFile).string(), specs, {{"format", "pt"}}));
  Editor editor(is_edited, edit);
  for (const auto& [name, entry] : folder.tensors()) {
    NF_RETURN_IF_ERROR(editor.copy(name, entry.tensor, writer));
    entry.file->forget(entry.tensor);
  }
  return writer.commit();
}

Status write_new_checkpoint(const std::string& source, const std::string& out, DType dtype,
                            const ParameterSet& set, const std::vector<FrozenTensor>& frozen) {
  NF_RETURN_IF_ERROR(copy_companions(source, out));
  std::vector<io::NamedTensor> tensors;
  for (const Parameter& parameter : set.parameters) tensors.push_back({parameter.name, parameter.value});
  for (const FrozenTensor& tensor : frozen) tensors.push_back({tensor.name, tensor.value});
  std::vector<io::TensorSpec> specs;
  for (const io::NamedTensor& tensor : tensors) {
    specs.push_back({tensor.name, stays_f32(tensor.name) ? DType::kF32 : dtype, tensor.tensor.shape()});
  }
  NF_TRY(io::SafetensorsWriter writer,
         io::SafetensorsWriter::create((fs::path(out) / kTensorFile).string(), specs, {{"format", "pt"}}));
  for (size_t i = 0; i < tensors.size(); ++i) {
    Tensor rounded = make_host_tensor(specs[i].dtype, specs[i].shape);
    model::convert_elements(tensors[i].tensor, rounded.view());
    NF_RETURN_IF_ERROR(write_tensor(rounded.view(), writer));
  }
  return writer.commit();
}

}  // namespace nemoforge::train
