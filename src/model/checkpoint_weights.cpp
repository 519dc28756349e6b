// Weights::load: the tensors of a checkpoint folder, under the hub's names or those of transformers 5.
#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "model/convert.h"
#include "model/shape_check.h"
#include "model/weight_source.h"
#include "model/weights.h"

namespace nemoforge::model {
namespace {

// Hub checkpoints call the body "backbone", transformers 5 "model"; the rest of a name is the same.
constexpr std::string_view kBodyPrefixes[] = {"backbone.", "model."};

std::string_view without_body_prefix(std::string_view name) {
  for (const std::string_view prefix : kBodyPrefixes) {
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  }
  return name;
}

class CheckpointSource final : public WeightSource {
 public:
  CheckpointSource(const io::SafetensorsFolder& folder, DType dtype, ops::Backend& backend,
                   std::vector<Buffer>& buffers)
      : folder_(folder), dtype_(dtype), backend_(backend), buffers_(buffers) {}

  // Lists the tensors by their common names; refuses formats that are not read yet.
  Status index() {
    int64_t num_mtp = 0;
    for (const auto& [name, entry] : folder_.tensors()) {
      const std::string_view common = without_body_prefix(name);
      if (common.starts_with("mtp.")) {
        ++num_mtp;
        continue;
      }
      NF_RETURN_IF_ERROR(check_format(name, entry));
      const auto [place, is_new] = tensors_.emplace(common, Tensor{name, entry, false});
      if (!is_new) {
        return error(ErrorCode::kInvalidData, entry.file->path() + ": tensor \"" + name +
                                                  "\" is also there as \"" + place->second.name + "\"");
      }
    }
    if (num_mtp > 0) {
      spdlog::info("{}: {} tensors of multi-token prediction (mtp.*) are left out", folder_.path(), num_mtp);
    }
    return {};
  }

  Result<ConstTensorView> matrix(const std::string& name, const Shape& shape) override {
    NF_TRY(const Tensor* tensor, take(name, shape));
    return place(*tensor, linear_dtype(*tensor));
  }

  Result<ConstTensorView> matrix_f32(const std::string& name, const Shape& shape) override {
    NF_TRY(const Tensor* tensor, take(name, shape));
    return place(*tensor, DType::kF32);
  }

  Result<std::vector<ConstTensorView>> expert_matrices(const std::string& prefix,
                                                       const std::string& projection, int64_t count,
                                                       const Shape& shape) override {
    // transformers 5 keeps the experts of a layer in one tensor.
    const std::string fused = prefix + "." + projection;
    if (has(fused)) {
      NF_TRY(const Tensor* tensor, take(fused, {count, shape[0], shape[1]}));
      NF_TRY(const ConstTensorView all, place(*tensor, linear_dtype(*tensor)));
      return split(all, shape);
    }
    std::vector<ConstTensorView> matrices;
    Buffer stacked;  // a device of its own gets the experts one behind another, for its grouped products
    for (int64_t expert = 0; expert < count; ++expert) {
      const std::string name = prefix + "." + std::to_string(expert) + "." + projection + ".weight";
      NF_TRY(const Tensor* tensor, take(name, shape));
      const DType dtype = linear_dtype(*tensor);
      ConstTensorView matrix;
      if (backend_.shares_host_memory()) {
        NF_TRY(matrix, place(*tensor, dtype));
      } else {
        const int64_t bytes = shape.numel() * dtype_bytes(matrices.empty() ? dtype : matrices[0].dtype());
        if (stacked.data() == nullptr) {
          NF_TRY(stacked, backend_.allocate(count * bytes));
        }
        const TensorView target(static_cast<std::byte*>(stacked.data()) + expert * bytes, dtype, shape);
        if (matrices.empty() || dtype == matrices[0].dtype()) fill(*tensor, target);
        matrix = target;
      }
      if (!matrices.empty() && matrix.dtype() != matrices[0].dtype()) {
        return error(ErrorCode::kUnsupported, tensor->entry.file->path() + ": tensor \"" + tensor->name +
                                                  "\" is " + std::string(dtype_name(matrix.dtype())) +
                                                  ", but other experts of its layer are " +
                                                  std::string(dtype_name(matrices[0].dtype())));
      }
      matrices.push_back(matrix);
    }
    if (stacked.data() != nullptr) buffers_.push_back(std::move(stacked));
    return matrices;
  }

  Result<ConstTensorView> parameter(const std::string& name, const Shape& shape,
                                    ParameterRole role) override {
    NF_TRY(const Tensor* tensor, take(name, shape));
    return place(*tensor, is_kept_in_f32(role) ? DType::kF32 : tensor->entry.tensor.dtype());
  }

  [[nodiscard]] bool has(const std::string& name) const override { return tensors_.contains(name); }

  // Every tensor must have been asked for.
  Status check_all_taken() const {
    const Tensor* first = nullptr;
    int64_t count = 0;
    for (const auto& [common, tensor] : tensors_) {
      if (tensor.taken) continue;
      if (first == nullptr) first = &tensor;
      ++count;
    }
    if (first == nullptr) return {};
    const std::string more = count > 1 ? " (nor " + std::to_string(count - 1) + " others)" : "";
    return error(ErrorCode::kInvalidData, first->entry.file->path() + ": tensor \"" + first->name +
                                              "\" of shape " + first->entry.tensor.shape().to_string() +
                                              " has no place in the model that config.json describes" + more);
  }

 private:
  struct Tensor {
    std::string name;  // as the file spells it
    io::SafetensorsFolder::Entry entry;
    bool taken = false;
  };

  static Status check_format(const std::string& name, const io::SafetensorsFolder::Entry& entry) {
    const DType dtype = entry.tensor.dtype();
    if (is_dense_float(dtype)) return {};
    const char* format = dtype == DType::kF8E4M3 ? "FP8 (float8_e4m3fn)"
                         : dtype == DType::kU8   ? "NVFP4 (two e2m1 values a byte)"
                                                 : nullptr;
    const std::string where = entry.file->path() + ": tensor \"" + name + "\" is ";
    if (format == nullptr) {
      return error(ErrorCode::kUnsupported,
                   where + std::string(dtype_name(dtype)) + ", not F32, BF16 or F16");
    }
    return error(ErrorCode::kUnsupported,
                 where + "stored as " + format + ", which nemoforge does not read yet",
                 "use the BF16 checkpoint of the model");
  }

  // The stored type, but for the one rounding that bf16 computation asks for.
  [[nodiscard]] DType linear_dtype(const Tensor& tensor) const {
    return dtype_ == DType::kBF16 ? DType::kBF16 : tensor.entry.tensor.dtype();
  }

  Result<const Tensor*> take(const std::string& name, const Shape& shape) {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      const bool is_body = !name.starts_with("lm_head.");
      return error(ErrorCode::kInvalidData, folder_.path() + ": tensor \"" + (is_body ? "backbone." : "") +
                                                name + "\" of shape " + shape.to_string() + " is missing");
    }
    Tensor& tensor = found->second;
    if (!(tensor.entry.tensor.shape() == shape)) {
      return error(ErrorCode::kInvalidData, tensor.entry.file->path() + ": tensor \"" + tensor.name +
                                                "\" has shape " + tensor.entry.tensor.shape().to_string() +
                                                ", config.json asks for " + shape.to_string());
    }
    tensor.taken = true;
    return &tensor;
  }

  // The tensor in memory of the backend, in this type: the mapped file itself where that will do.
  Result<ConstTensorView> place(const Tensor& tensor, DType dtype) {
    const ConstTensorView stored = tensor.entry.tensor;
    if (stored.dtype() == dtype && backend_.shares_host_memory()) return stored;
    NF_TRY(Buffer buffer, backend_.allocate(stored.numel() * dtype_bytes(dtype)));
    const TensorView placed(buffer.data(), dtype, stored.shape());
    fill(tensor, placed);
    buffers_.push_back(std::move(buffer));
    return ConstTensorView(placed);
  }

  // Copies the tensor to memory of the backend, in the type of `target`.
  void fill(const Tensor& tensor, const TensorView& target) {
    const ConstTensorView stored = tensor.entry.tensor;
    const int64_t bytes = stored.numel() * dtype_bytes(target.dtype());
    if (stored.dtype() == target.dtype()) {
      backend_.upload(stored.raw(), target.raw(), bytes);
    } else if (backend_.shares_host_memory()) {
      convert_elements(stored, target);
    } else {
      nemoforge::Tensor converted = make_host_tensor(target.dtype(), stored.shape());
      convert_elements(stored, converted.view());
      backend_.upload(converted.view().raw(), target.raw(), bytes);
    }
    // What has been copied is not read again: without this the peak would be the file and the copy.
    tensor.entry.file->forget(stored);
  }

  static std::vector<ConstTensorView> split(const ConstTensorView& all, const Shape& shape) {
    std::vector<ConstTensorView> matrices;
    for (int64_t i = 0; i < all.size(0); ++i) matrices.push_back(all.rows(i, 1).reshape(shape));
    return matrices;
  }

  const io::SafetensorsFolder& folder_;
  DType dtype_;
  ops::Backend& backend_;
  std::vector<Buffer>& buffers_;
  std::map<std::string, Tensor, std::less<>> tensors_;  // by the name without its body prefix
};

}  // namespace

Result<Weights> Weights::load(const std::string& folder, const ModelConfig& config, DType dtype,
                              ops::Backend& backend) {
  NF_CHECK(dtype == DType::kF32 || dtype == DType::kBF16) << dtype_name(dtype);
  NF_RETURN_IF_ERROR(check_shapes(config, backend.shape_limits()));
  Weights weights;
  NF_TRY(io::SafetensorsFolder checkpoint, io::SafetensorsFolder::open(folder));
  weights.checkpoint_ = std::make_unique<io::SafetensorsFolder>(std::move(checkpoint));
  CheckpointSource source(*weights.checkpoint_, dtype, backend, weights.buffers_);
  NF_RETURN_IF_ERROR(source.index());
  NF_TRY(weights.weights_, assemble_weights(config, source));
  NF_RETURN_IF_ERROR(source.check_all_taken());
  return weights;
}

}  // namespace nemoforge::model
