#include "train/adamw.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/integers.h"
#include "base/thread_pool.h"
#include "train/block_quantization.h"

namespace nemoforge::train {
namespace {

// Elements of one task: 64 KiB of each of the four arrays; whole blocks.
constexpr int64_t kChunk = 16384;
static_assert(kChunk % kQuantizationBlock == 0);

bool is_quantized(const Parameter& parameter, MomentFormat format) {
  return format == MomentFormat::kBlock8 && parameter.value.numel() >= kMinQuantizedElements;
}

Tensor f32_zeros(const Shape& shape) {
  Tensor tensor = make_host_tensor(DType::kF32, shape);
  std::fill_n(tensor.view().data<float>(), shape.numel(), 0.0f);
  return tensor;
}

// Any code times a scale of 0.
Tensor zero_codes(int64_t count) {
  Tensor tensor = make_host_tensor(DType::kU8, {count});
  std::fill_n(tensor.view().data<uint8_t>(), count, uint8_t{0});
  return tensor;
}

using StepFactors = ops::AdamWFactors;

void update_elements(const StepFactors& f, int64_t count, float* p, const float* grad, float* m, float* v) {
  for (int64_t i = 0; i < count; ++i) {
    const float g = grad[i] * f.grad_scale;
    m[i] = f.beta1 * m[i] + (1.0f - f.beta1) * g;
    v[i] = f.beta2 * v[i] + (1.0f - f.beta2) * g * g;
    p[i] = f.decay * p[i] - f.step_size * m[i] / (std::sqrt(v[i]) * f.inverse_sqrt2 + f.epsilon);
  }
}

// Likewise of one block, whose moments are codes.
void update_block(const StepFactors& f, int64_t block, int64_t count, float* p, const float* grad,
                  Moments& moments) {
  std::array<float, kQuantizationBlock> m{};
  std::array<float, kQuantizationBlock> v{};
  const auto size = static_cast<size_t>(count);
  const std::span<float> m_values(m.data(), size);
  const std::span<float> v_values(v.data(), size);
  const std::span m_codes(moments.m.view().data<uint8_t>() + block * kQuantizationBlock, size);
  const std::span v_codes(moments.v.view().data<uint8_t>() + block * kQuantizationBlock, size);
  float& m_scale = moments.m_scale.view().data<float>()[block];
  float& v_scale = moments.v_scale.view().data<float>()[block];
  DynamicCode::with_sign().decode(m_codes, m_scale, m_values);
  DynamicCode::without_sign().decode(v_codes, v_scale, v_values);
  update_elements(f, count, p, grad, m.data(), v.data());
  m_scale = DynamicCode::with_sign().encode(m_values, m_codes);
  v_scale = DynamicCode::without_sign().encode(v_values, v_codes);
}

// Elements [begin, end) of a parameter; begin is that of a block.
void update_range(const StepFactors& f, const Parameter& parameter, int64_t begin, int64_t end,
                  Moments& moments) {
  auto* p = parameter.value.data<float>();
  const auto* grad = parameter.grad.data<float>();
  if (moments.m.view().dtype() == DType::kF32) {
    update_elements(f, end - begin, p + begin, grad + begin, moments.m.view().data<float>() + begin,
                    moments.v.view().data<float>() + begin);
    return;
  }
  for (int64_t i = begin; i < end; i += kQuantizationBlock) {
    update_block(f, i / kQuantizationBlock, std::min(kQuantizationBlock, end - i), p + i, grad + i, moments);
  }
}

}  // namespace

namespace {

// The moments of all parameters in one piece of a device's memory, each a multiple of 256 bytes.
class MomentPieces {
 public:
  explicit MomentPieces(void* memory) : next_(static_cast<std::byte*>(memory)) {}

  static int64_t padded(int64_t num_bytes) { return round_up<int64_t>(num_bytes, 256); }

  Moments take(const Parameter& parameter, MomentFormat format) {
    const Shape& shape = parameter.value.shape();
    if (!is_quantized(parameter, format))
      return {piece(DType::kF32, shape), piece(DType::kF32, shape), {}, {}};
    const Shape codes{shape.numel()};
    const Shape blocks{ceil_div(shape.numel(), kQuantizationBlock)};
    return {piece(DType::kU8, codes), piece(DType::kU8, codes), piece(DType::kF32, blocks),
            piece(DType::kF32, blocks)};
  }

 private:
  Tensor piece(DType dtype, const Shape& shape) {
    const int64_t num_bytes = shape.numel() * dtype_bytes(dtype);
    Tensor tensor(Buffer(next_, num_bytes, [](void*) {}), dtype, shape);
    next_ += padded(num_bytes);
    return tensor;
  }

  std::byte* next_;
};

int64_t device_moment_bytes(const ParameterSet& set, MomentFormat format) {
  int64_t bytes = 0;
  for (const Parameter& parameter : set.parameters) {
    const int64_t count = parameter.value.numel();
    bytes += is_quantized(parameter, format)
                 ? 2 * (MomentPieces::padded(count) +
                        MomentPieces::padded(4 * ceil_div(count, kQuantizationBlock)))
                 : 2 * MomentPieces::padded(4 * count);
  }
  return bytes;
}

}  // namespace

std::string_view optimizer_name(MomentFormat format) {
  return format == MomentFormat::kF32 ? "adamw" : "adamw8bit";
}

AdamW::AdamW(const ParameterSet& set, const AdamWOptions& options) : options_(options) {
  for (const Parameter& parameter : set.parameters) {
    const int64_t count = parameter.value.numel();
    Moments moments;
    if (is_quantized(parameter, options.moments)) {
      const Shape blocks{ceil_div(count, kQuantizationBlock)};
      moments = {zero_codes(count), zero_codes(count), f32_zeros(blocks), f32_zeros(blocks)};
    } else {
      moments = {f32_zeros(parameter.value.shape()), f32_zeros(parameter.value.shape()), {}, {}};
    }
    moments_.push_back(std::move(moments));
  }
}

Result<AdamW> AdamW::on(ops::Backend& backend, const ParameterSet& set, const AdamWOptions& options) {
  if (backend.shares_host_memory()) return AdamW(set, options);
  AdamW result;
  result.options_ = options;
  NF_TRY(result.device_moments_, backend.allocate(device_moment_bytes(set, options.moments)));
  // Any code times a scale of 0 is 0.
  backend.fill_zero(result.device_moments_.data(), result.device_moments_.num_bytes());
  MomentPieces pieces(result.device_moments_.data());
  std::vector<ops::ParameterSegment> segments;
  for (const Parameter& parameter : set.parameters) {
    result.moments_.push_back(pieces.take(parameter, options.moments));
    Moments& moments = result.moments_.back();
    segments.push_back({.value = parameter.value,
                        .grad = parameter.grad,
                        .copy = parameter.copy,
                        .m = moments.m.view(),
                        .v = moments.v.view(),
                        .m_scale = moments.m_scale.view(),
                        .v_scale = moments.v_scale.view(),
                        .weight_decay = parameter.weight_decay});
  }
  const ops::MomentCodes codes{DynamicCode::with_sign().values(), DynamicCode::without_sign().values()};
  NF_TRY(result.device_updates_, ops::make_cuda_parameter_updates(backend, segments, codes));
  return result;
}

int64_t AdamW::moment_bytes(const ParameterSet& set, MomentFormat format) {
  int64_t bytes = 0;
  for (const Parameter& parameter : set.parameters) {
    const int64_t count = parameter.value.numel();
    bytes +=
        is_quantized(parameter, format) ? 2 * (count + 4 * ceil_div(count, kQuantizationBlock)) : 8 * count;
  }
  return bytes;
}

void AdamW::update(ParameterSet& set, int64_t step, double rate, double grad_scale) {
  NF_CHECK(set.parameters.size() == moments_.size()) << set.parameters.size();
  const auto t = static_cast<double>(step + 1);
  StepFactors factors{};
  factors.grad_scale = static_cast<float>(grad_scale);
  factors.beta1 = static_cast<float>(options_.beta1);
  factors.beta2 = static_cast<float>(options_.beta2);
  factors.step_size = static_cast<float>(rate / (1 - std::pow(options_.beta1, t)));
  factors.inverse_sqrt2 = static_cast<float>(1 / std::sqrt(1 - std::pow(options_.beta2, t)));
  factors.epsilon = static_cast<float>(options_.epsilon);
  if (device_updates_ != nullptr) {
    factors.decay = static_cast<float>(1 - rate * options_.weight_decay);
    device_updates_->adamw(factors);
    return;
  }
  for (size_t i = 0; i < set.parameters.size(); ++i) {
    const Parameter& parameter = set.parameters[i];
    factors.decay = parameter.weight_decay ? static_cast<float>(1 - rate * options_.weight_decay) : 1.0f;
    const int64_t count = parameter.value.numel();
    ThreadPool::global().parallel_for(ceil_div(count, kChunk), [&](int64_t task, int) {
      update_range(factors, parameter, task * kChunk, std::min(count, (task + 1) * kChunk), moments_[i]);
    });
  }
}

double AdamW::gradient_norm(const ParameterSet& set) const {
  if (device_updates_ != nullptr) return std::sqrt(device_updates_->gradient_square_sum());
  double sum = 0;
  for (const Parameter& parameter : set.parameters) {
    const auto* grad = parameter.grad.data<float>();
    const int64_t count = parameter.grad.numel();
    std::vector<double> partial(static_cast<size_t>(ceil_div(count, kChunk)), 0.0);
    ThreadPool::global().parallel_for(ceil_div(count, kChunk), [&](int64_t task, int) {
      double chunk_sum = 0;
      for (int64_t i = task * kChunk; i < std::min(count, (task + 1) * kChunk); ++i) {
        chunk_sum += static_cast<double>(grad[i]) * static_cast<double>(grad[i]);
      }
      partial[static_cast<size_t>(task)] = chunk_sum;
    });
    for (const double chunk_sum : partial) sum += chunk_sum;
  }
  return std::sqrt(sum);
}

}  // namespace nemoforge::train
