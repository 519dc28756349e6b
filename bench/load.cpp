#include "bench/load.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "bench/sequences.h"
#include "bench/timing.h"
#include "io/safetensors.h"
#include "model/convert.h"
#include "model/model.h"
#include "model/weight_source.h"

namespace nemoforge::bench {
namespace {

using model::ParameterRole;

// Takes down which tensors a model has, and makes none: its views have shapes and no data.
class SpecSource final : public model::WeightSource {
 public:
  explicit SpecSource(DType dtype) : dtype_(dtype) {}

  Result<ConstTensorView> matrix(const std::string& name, const Shape& shape) override {
    return add(name, dtype_, shape);
  }
  Result<ConstTensorView> matrix_f32(const std::string& name, const Shape& shape) override {
    return add(name, dtype_, shape);
  }
  Result<std::vector<ConstTensorView>> expert_matrices(const std::string& prefix,
                                                       const std::string& projection, int64_t count,
                                                       const Shape& shape) override {
    std::vector<ConstTensorView> views;
    for (int64_t expert = 0; expert < count; ++expert) {
      views.push_back(
          add(prefix + "." + std::to_string(expert) + "." + projection + ".weight", dtype_, shape));
    }
    return views;
  }
  Result<ConstTensorView> parameter(const std::string& name, const Shape& shape, ParameterRole) override {
    return add(name, dtype_, shape);
  }
  [[nodiscard]] bool has(const std::string&) const override { return true; }

  std::vector<io::TensorSpec> specs;

 private:
  ConstTensorView add(const std::string& name, DType dtype, const Shape& shape) {
    specs.push_back({name.starts_with("lm_head") ? name : "backbone." + name, dtype, shape});
    return ConstTensorView(static_cast<const void*>(nullptr), dtype, shape);
  }
  DType dtype_;
};

constexpr int64_t kPieceElements = int64_t{1} << 20;

Status write_random(io::SafetensorsWriter& writer, const io::TensorSpec& spec, Rng& rng) {
  // One piece of normal values, written again and again: what is measured is reading.
  const int64_t count = std::min(kPieceElements, spec.shape.numel());
  Tensor values = make_host_tensor(DType::kF32, {count});
  const double scale = spec.shape.rank() == 2 ? 1 / std::sqrt(static_cast<double>(spec.shape[1])) : 0.1;
  for (int64_t i = 0; i < count; ++i) {
    values.view().data<float>()[i] = static_cast<float>(scale * rng.normal());
  }
  Tensor piece = make_host_tensor(spec.dtype, {count});
  model::convert_elements(values.view(), piece.view());
  for (int64_t begin = 0; begin < spec.shape.numel(); begin += count) {
    const int64_t size = std::min(count, spec.shape.numel() - begin);
    NF_RETURN_IF_ERROR(writer.write({static_cast<const std::byte*>(std::as_const(piece).view().raw()),
                                     static_cast<size_t>(size * dtype_bytes(spec.dtype))}));
  }
  return {};
}

Result<double> read_once(const std::string& path) {
  const Stopwatch watch;
  std::ifstream file(path, std::ios::binary);
  std::vector<char> piece(size_t{8} << 20);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size()))) {
  }
  if (!file.eof()) return error(ErrorCode::kIo, path + ": cannot read");
  return watch.seconds();
}

// The line "VmHWM:   123 kB" of /proc/self/status.
double peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    long kilobytes = 0;
    if (std::sscanf(line.c_str(), "VmHWM: %ld kB", &kilobytes) == 1)
      return 1024.0 * static_cast<double>(kilobytes);
  }
  return 0;
}

}  // namespace

Status write_random_checkpoint(const std::string& folder, const model::ModelConfig& config, DType dtype,
                               uint64_t seed) {
  SpecSource source(dtype);
  if (auto assembled = model::assemble_weights(config, source); !assembled) return forward_error(assembled);
  const auto path = (std::filesystem::path(folder) / "model.safetensors").string();
  NF_TRY(io::SafetensorsWriter writer, io::SafetensorsWriter::create(path, source.specs));
  Rng rng(seed);
  for (const io::TensorSpec& spec : source.specs) NF_RETURN_IF_ERROR(write_random(writer, spec, rng));
  return writer.commit();
}

Result<LoadResult> run_load(const std::string& folder, const model::ModelConfig& config, DType dtype,
                            ops::Backend& backend) {
  LoadResult result;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    result.file_bytes += static_cast<double>(entry.file_size());
    NF_TRY(const double seconds, read_once(entry.path().string()));
    result.read_s += seconds;
  }
  const Stopwatch watch;
  NF_TRY(model::Weights weights, model::Weights::load(folder, config, dtype, backend));
  model::Model model(config, std::move(weights), dtype, backend);
  result.load_s = watch.seconds();
  NF_TRY(const Sequences sequences, Sequences::make(model, 1, kBlockSize));
  const int32_t id = 1;
  sequences.prefill(model, 0, 0, {&id, 1}, 1);
  result.first_token_s = watch.seconds();
  result.peak_memory_bytes = peak_memory_bytes();
  return result;
}

}  // namespace nemoforge::bench
