// The backward of the ops that a row shares with its neighbours (norms) or its document (convolution, scan,
// attention) on every backend, against the reference in double precision: shapes around tiles and chunks,
// documents of all lengths, strided rows, gradients that hold something before, the same bits twice.
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "ops/op_test_support.h"
#include "ops/ragged_batch.h"
#include "ops/reference_training_backend.h"
#include "ops/training_backend.h"

namespace nemoforge::ops {
namespace {

enum class Held {
  kActivation,  // of the case's dtype: T in the contracts
  kFloat,       // f32 whatever the case's dtype
  kParameter,   // f32, contiguous, and its gradient may be left out
};

struct Input {
  Held held;
  Tensor values;  // f32
};

using Views = std::vector<TensorView>;

// An op with its inputs; gradients are in the order of the inputs.
struct OpCase {
  std::string name;
  std::vector<SequenceCase> documents;  // empty where the op knows none
  std::vector<Input> inputs;
  Tensor d_out;  // f32
  std::function<void(TrainingBackend&, const RaggedRows*, const Views& inputs, const TensorView& d_out,
                     const Views& gradients)>
      backward;
  int64_t gap = 8;  // elements between the rows of matrices
};

std::string name_of(const std::string& op, const std::vector<int64_t>& sizes,
                    const std::vector<int64_t>& lengths = {}) {
  std::string name = op;
  for (const int64_t size : sizes) name += ' ' + std::to_string(size);
  if (!lengths.empty()) name += ", documents of";
  for (const int64_t length : lengths) name += ' ' + std::to_string(length);
  return name;
}

std::vector<SequenceCase> documents_of(const std::vector<int64_t>& lengths) {
  std::vector<SequenceCase> documents;
  for (const int64_t length : lengths) documents.push_back({.num_rows = length});
  return documents;
}

int64_t sum_of(const std::vector<int64_t>& lengths) {
  int64_t sum = 0;
  for (const int64_t length : lengths) sum += length;
  return sum;
}

void add_input(Rng& rng, OpCase& op, Held held, const Shape& shape, double scale = 1, double mean = 0) {
  op.inputs.push_back({held, random_tensor(rng, DType::kF32, shape, scale, mean)});
}

OpCase rms_norm_case(Rng& rng, int64_t rows, int64_t size) {
  OpCase op{name_of("rms_norm", {rows, size}), {}, {}, {}, {}};
  add_input(rng, op, Held::kFloat, {rows, size});
  add_input(rng, op, Held::kParameter, {size});
  op.d_out = random_tensor(rng, DType::kF32, {rows, size});
  op.backward = [](TrainingBackend& training, const RaggedRows*, const Views& in, const TensorView& d_out,
                   const Views& gradients) {
    training.rms_norm_backward({.x = in[0],
                                .weight = in[1],
                                .epsilon = 1e-3f,
                                .d_out = d_out,
                                .d_x = gradients[0],
                                .d_weight = gradients[1]});
  };
  return op;
}

OpCase gated_rms_norm_case(Rng& rng, int64_t rows, int64_t channels, int64_t groups) {
  OpCase op{name_of("gated_rms_norm", {rows, channels, groups}), {}, {}, {}, {}};
  add_input(rng, op, Held::kFloat, {rows, channels});
  add_input(rng, op, Held::kActivation, {rows, channels});
  add_input(rng, op, Held::kParameter, {channels});
  op.d_out = random_tensor(rng, DType::kF32, {rows, channels});
  op.backward = [groups](TrainingBackend& training, const RaggedRows*, const Views& in,
                         const TensorView& d_out, const Views& gradients) {
    training.gated_rms_norm_backward({.y = in[0],
                                      .z = in[1],
                                      .weight = in[2],
                                      .num_groups = groups,
                                      .epsilon = 1e-2f,
                                      .d_out = d_out,
                                      .d_y = gradients[0],
                                      .d_z = gradients[1],
                                      .d_weight = gradients[2]});
  };
  return op;
}

OpCase causal_conv1d_case(Rng& rng, const std::vector<int64_t>& lengths, int64_t channels, int64_t taps) {
  OpCase op{name_of("causal_conv1d", {channels, taps}, lengths), documents_of(lengths), {}, {}, {}};
  const int64_t rows = sum_of(lengths);
  add_input(rng, op, Held::kActivation, {rows, channels});
  add_input(rng, op, Held::kParameter, {channels, taps}, 0.5);
  add_input(rng, op, Held::kParameter, {channels});
  op.d_out = random_tensor(rng, DType::kF32, {rows, channels});
  op.backward = [](TrainingBackend& training, const RaggedRows* ragged, const Views& in,
                   const TensorView& d_out, const Views& gradients) {
    training.causal_conv1d_backward({.rows = ragged,
                                     .x = in[0],
                                     .weight = in[1],
                                     .bias = in[2],
                                     .d_out = d_out,
                                     .d_x = gradients[0],
                                     .d_weight = gradients[1],
                                     .d_bias = gradients[2]});
  };
  return op;
}

// Decays are slow enough that states reach across chunks of 64 rows.
OpCase ssd_scan_case(Rng& rng, const std::vector<int64_t>& lengths, int64_t heads, int64_t head_dim,
                     int64_t groups, int64_t state_size) {
  OpCase op{
      name_of("ssd_scan", {heads, head_dim, groups, state_size}, lengths), documents_of(lengths), {}, {}, {}};
  const int64_t rows = sum_of(lengths);
  const double scale = 2 / std::sqrt(static_cast<double>(state_size));
  add_input(rng, op, Held::kActivation, {rows, heads * head_dim});
  add_input(rng, op, Held::kActivation, {rows, groups * state_size}, scale);
  add_input(rng, op, Held::kActivation, {rows, groups * state_size}, scale);
  add_input(rng, op, Held::kActivation, {rows, heads}, 0.5, -1);
  add_input(rng, op, Held::kParameter, {heads}, 1, -3);
  add_input(rng, op, Held::kParameter, {heads}, 0.5);
  add_input(rng, op, Held::kParameter, {heads}, 0.5);
  op.d_out = random_tensor(rng, DType::kF32, {rows, heads * head_dim});
  op.backward = [=](TrainingBackend& training, const RaggedRows* ragged, const Views& in,
                    const TensorView& d_out, const Views& gradients) {
    training.ssd_scan_backward({.rows = ragged,
                                .x = in[0],
                                .b = in[1],
                                .c = in[2],
                                .dt_raw = in[3],
                                .a_log = in[4],
                                .d = in[5],
                                .dt_bias = in[6],
                                .num_heads = heads,
                                .head_dim = head_dim,
                                .num_groups = groups,
                                .state_size = state_size,
                                .d_y = d_out,
                                .d_x = gradients[0],
                                .d_b = gradients[1],
                                .d_c = gradients[2],
                                .d_dt_raw = gradients[3],
                                .d_a_log = gradients[4],
                                .d_d = gradients[5],
                                .d_dt_bias = gradients[6]});
  };
  return op;
}

OpCase attention_case(Rng& rng, const std::vector<int64_t>& lengths, int64_t heads, int64_t kv_heads,
                      int64_t head_dim) {
  OpCase op{name_of("attention", {heads, kv_heads, head_dim}, lengths), documents_of(lengths), {}, {}, {}};
  const int64_t rows = sum_of(lengths);
  const float scale = 2 / std::sqrt(static_cast<float>(head_dim));
  add_input(rng, op, Held::kActivation, {rows, heads * head_dim});
  add_input(rng, op, Held::kActivation, {rows, kv_heads * head_dim});
  add_input(rng, op, Held::kActivation, {rows, kv_heads * head_dim});
  op.d_out = random_tensor(rng, DType::kF32, {rows, heads * head_dim});
  op.backward = [=](TrainingBackend& training, const RaggedRows* ragged, const Views& in,
                    const TensorView& d_out, const Views& gradients) {
    training.attention_backward({.rows = ragged,
                                 .q = in[0],
                                 .k = in[1],
                                 .v = in[2],
                                 .num_heads = heads,
                                 .num_kv_heads = kv_heads,
                                 .head_dim = head_dim,
                                 .scale = scale,
                                 .d_out = d_out,
                                 .d_q = gradients[0],
                                 .d_k = gradients[1],
                                 .d_v = gradients[2]});
  };
  return op;
}

std::vector<OpCase> norm_cases() {
  Rng rng(8100);
  std::vector<OpCase> cases;
  cases.push_back(rms_norm_case(rng, 1, 1));
  cases.push_back(rms_norm_case(rng, 3, 67));
  cases.push_back(rms_norm_case(rng, 600, 130));  // more rows than blocks
  cases.push_back(rms_norm_case(rng, 5, 2688));   // Nemotron-3-Nano's
  cases.push_back(gated_rms_norm_case(rng, 1, 1, 1));
  cases.push_back(gated_rms_norm_case(rng, 67, 3 * 37, 3));
  cases.push_back(gated_rms_norm_case(rng, 600, 64, 2));
  cases.push_back(gated_rms_norm_case(rng, 5, 2 * 700, 2));  // beyond the small groups' kernel
  cases.push_back(gated_rms_norm_case(rng, 5, 4096, 8));     // Nemotron-3-Nano's
  return cases;
}

std::vector<OpCase> causal_conv1d_cases() {
  Rng rng(8200);
  std::vector<OpCase> cases;
  cases.push_back(causal_conv1d_case(rng, {1}, 1, 2));
  cases.push_back(causal_conv1d_case(rng, {1, 70, 2, 0, 33}, 67, 4));
  cases.push_back(causal_conv1d_case(rng, {62, 1, 1, 1, 64, 65}, 130, 4));  // around a block of rows
  cases.push_back(causal_conv1d_case(rng, {5, 9, 127}, 33, 8));
  cases.push_back(causal_conv1d_case(rng, {3, 100}, 40, 3));
  return cases;
}

std::vector<OpCase> ssd_scan_cases() {
  Rng rng(8300);
  std::vector<OpCase> cases;
  cases.push_back(ssd_scan_case(rng, {1}, 1, 1, 1, 1));
  cases.push_back(ssd_scan_case(rng, {64, 1, 65, 0, 31}, 4, 5, 2, 17));
  cases.push_back(ssd_scan_case(rng, {130}, 2, 8, 1, 200));
  cases.push_back(ssd_scan_case(rng, {1}, 2, 64, 1, 128));
  cases.push_back(ssd_scan_case(rng, {200}, 4, 64, 2, 128));  // Nemotron-3-Nano's heads
  cases.push_back(ssd_scan_case(rng, {1, 70, 2, 0, 33, 90}, 4, 64, 2, 128));
  cases.push_back(ssd_scan_case(rng, {64, 64, 63}, 2, 64, 1, 64));
  cases.push_back(ssd_scan_case(rng, {150, 3, 1}, 3, 32, 1, 64));
  cases.push_back(ssd_scan_case(rng, {65, 129}, 2, 32, 2, 128));
  cases.push_back(ssd_scan_case(rng, {100}, 2, 64, 2, 128));
  cases.back().gap = 3;  // rows that begin at odd elements
  return cases;
}

std::vector<OpCase> attention_cases() {
  Rng rng(8400);
  std::vector<OpCase> cases;
  cases.push_back(attention_case(rng, {1}, 1, 1, 1));
  cases.push_back(attention_case(rng, {1, 33, 32, 0, 70}, 6, 2, 19));
  cases.push_back(attention_case(rng, {40}, 2, 2, 200));
  cases.push_back(attention_case(rng, {1}, 32, 2, 128));
  cases.push_back(attention_case(rng, {150}, 32, 2, 128));  // Nemotron-3-Nano's heads
  cases.push_back(attention_case(rng, {3, 64, 1, 0, 130, 65}, 8, 2, 128));
  cases.push_back(attention_case(rng, {129, 127, 1}, 3, 1, 64));
  cases.push_back(attention_case(rng, {200, 7}, 8, 2, 32));  // the demo model's heads
  cases.push_back(attention_case(rng, {100}, 4, 2, 64));
  cases.back().gap = 3;  // rows that begin at odd elements
  return cases;
}

// A tensor of `dtype` with the values of an f32 one, each rounded.
Tensor rounded(const ConstTensorView& values, DType dtype) {
  Tensor tensor = make_host_tensor(dtype, values.shape());
  const ConstTensorView from = values.reshape({values.numel()});
  const TensorView to = tensor.view().reshape({values.numel()});
  for (int64_t i = 0; i < values.numel(); ++i) store_element(to, i, 0, load_element(from, i));
  return tensor;
}

DType dtype_of(const Input& input, DType activation) {
  return input.held == Held::kActivation ? activation : DType::kF32;
}

// The gradient of the gated norm's f32 input is T.
DType gradient_dtype_of(const OpCase& op, size_t input, DType activation) {
  if (op.inputs[input].held == Held::kParameter) return DType::kF32;
  const bool is_residual = op.name.starts_with("rms_norm");
  return is_residual ? DType::kF32 : activation;
}

// Rows of matrices are strided, so that gaps between them are guarded.
GuardedTensor on_backend(Backend& backend, const ConstTensorView& values, Held held, int64_t gap) {
  return GuardedTensor(backend, values, held == Held::kParameter ? 0 : values.size(1) + gap);
}

std::vector<Tensor> gradients_before(const OpCase& op, DType activation) {
  Rng rng(8500);
  std::vector<Tensor> before;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    before.push_back(
        random_tensor(rng, gradient_dtype_of(op, i, activation), op.inputs[i].values.view().shape(), 0.1));
  }
  return before;
}

// The gradients after the op, from `before` on. Parameters' are left out where frozen.
std::vector<Tensor> run(const OpCase& op, Backend& backend, TrainingBackend& training, DType activation,
                        const std::vector<Tensor>& before, bool frozen = false) {
  std::unique_ptr<RaggedBatch> batch;
  if (!op.documents.empty()) batch = std::make_unique<RaggedBatch>(backend, op.documents);
  std::vector<GuardedTensor> inputs;
  std::vector<GuardedTensor> gradients;
  Views input_views;
  Views gradient_views;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const Input& input = op.inputs[i];
    const Tensor values = rounded(input.values.view(), dtype_of(input, activation));
    inputs.push_back(on_backend(backend, values.view(), input.held, op.gap));
    input_views.push_back(inputs.back().view());
    gradients.push_back(on_backend(backend, before[i].view(), input.held, op.gap));
    const bool is_left_out = frozen && input.held == Held::kParameter;
    gradient_views.push_back(is_left_out ? TensorView() : gradients.back().view());
  }
  const Tensor d_out_values = rounded(op.d_out.view(), activation);
  GuardedTensor d_out = on_backend(backend, d_out_values.view(), Held::kActivation, op.gap);
  op.backward(training, batch ? &batch->rows() : nullptr, input_views, d_out.view(), gradient_views);
  std::vector<Tensor> after;
  for (GuardedTensor& gradient : gradients) after.push_back(gradient.download());
  return after;
}

// Of f32 tensors of the same shape, as vectors.
double cosine_of(const ConstTensorView& a, const ConstTensorView& b) {
  double product = 0;
  double a_squares = 0;
  double b_squares = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double x = load_element(a, i);
    const double y = load_element(b, i);
    product += x * y;
    a_squares += x * x;
    b_squares += y * y;
  }
  return a_squares == 0 && b_squares == 0 ? 1 : product / std::sqrt(a_squares * b_squares);
}

double largest_of(const ConstTensorView& view) {
  double largest = 0;
  for (int64_t i = 0; i < view.numel(); ++i) largest = std::max(largest, std::abs(load_element(view, i)));
  return largest;
}

Tensor difference_of(const Tensor& after, const Tensor& before) {
  const int64_t numel = after.view().numel();
  Tensor difference = make_host_tensor(DType::kF32, {numel});
  const ConstTensorView minuend = after.view().reshape({numel});
  const ConstTensorView subtrahend = before.view().reshape({numel});
  for (int64_t i = 0; i < numel; ++i) {
    store_element(difference.view(), i, 0, load_element(minuend, i) - load_element(subtrahend, i));
  }
  return difference;
}

// What the reference adds, in f32, for inputs rounded to `activation`.
std::vector<Tensor> expected_of(const OpCase& op, DType activation) {
  ReferenceBackend reference;
  const auto training = make_training_backend(reference).value();
  OpCase exact{op.name,
               op.documents,
               {},
               rounded(rounded(op.d_out.view(), activation).view(), DType::kF32),
               op.backward};
  std::vector<Tensor> zeros;
  for (const Input& input : op.inputs) {
    const Tensor values = rounded(input.values.view(), dtype_of(input, activation));
    exact.inputs.push_back({input.held, rounded(values.view(), DType::kF32)});
    zeros.push_back(make_host_tensor(DType::kF32, input.values.view().shape()));
    std::fill_n(zeros.back().view().data<float>(), zeros.back().view().numel(), 0.0f);
  }
  std::vector<Tensor> gradients = run(exact, reference, *training, DType::kF32, zeros);
  for (Tensor& gradient : gradients) {
    const int64_t numel = gradient.view().numel();
    gradient = rounded(gradient.view().reshape({numel}), DType::kF32);
  }
  return gradients;
}

// f32: within the tolerance of scans, on the scale of the largest gradient. bf16: the direction to 1e-3 (the
// project's bound), and no element further off than bf16's roundings of factors and sums take it.
void expect_gradients(const OpCase& op, DType activation, const std::vector<Tensor>& before,
                      const std::vector<Tensor>& after, const std::vector<Tensor>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    SCOPED_TRACE("gradient " + std::to_string(i));
    const Tensor added = difference_of(after[i], before[i]);
    const double largest = std::max(1.0, largest_of(expected[i].view()));
    Tolerance tolerance = tolerance_of(DType::kF32, OpClass::kScan);
    if (activation == DType::kBF16) {
      tolerance = {0x1p-6, 0x1p-6};
      EXPECT_GT(cosine_of(added.view(), expected[i].view()), 0.999) << op.name;
    }
    tolerance.absolute *= largest;
    EXPECT_TRUE(all_close(added.view(), expected[i].view(), tolerance)) << op.name;
  }
}

void check_cases(const std::vector<OpCase>& cases) {
  for (const auto& backend : backends_under_test()) {
    SCOPED_TRACE(backend->name());
    const auto training = make_training_backend(*backend).value();
    std::vector<DType> dtypes = {DType::kF32};
    if (backend->name() == "cuda") dtypes.push_back(DType::kBF16);
    for (const OpCase& op : cases) {
      for (const DType dtype : dtypes) {
        SCOPED_TRACE(op.name + ' ' + std::string(dtype_name(dtype)));
        const std::vector<Tensor> before = gradients_before(op, dtype);
        const std::vector<Tensor> after = run(op, *backend, *training, dtype, before);
        expect_gradients(op, dtype, before, after, expected_of(op, dtype));
        const std::vector<Tensor> again = run(op, *backend, *training, dtype, before);
        const std::vector<Tensor> frozen = run(op, *backend, *training, dtype, before, true);
        for (size_t i = 0; i < after.size(); ++i) {
          EXPECT_TRUE(bits_equal(again[i].view(), after[i].view()));
          const bool is_left_out = op.inputs[i].held == Held::kParameter;
          EXPECT_TRUE(bits_equal(frozen[i].view(), (is_left_out ? before : after)[i].view()));
        }
      }
    }
  }
}

TEST(SequenceBackward, norms) {
  check_cases(norm_cases());
}

TEST(SequenceBackward, causal_conv1d) {
  check_cases(causal_conv1d_cases());
}

TEST(SequenceBackward, ssd_scan) {
  check_cases(ssd_scan_cases());
}

TEST(SequenceBackward, attention) {
  check_cases(attention_cases());
}

// Rows of the second document, with another first one before it.
TEST(SequenceBackward, documents_do_not_touch_each_other) {
  constexpr int64_t kFirst = 70;
  constexpr int64_t kSecond = 90;
  Rng rng(8600);
  std::vector<OpCase> cases;
  cases.push_back(causal_conv1d_case(rng, {kFirst, kSecond}, 33, 4));
  cases.push_back(ssd_scan_case(rng, {kFirst, kSecond}, 2, 64, 1, 128));
  cases.push_back(attention_case(rng, {kFirst, kSecond}, 4, 2, 64));
  for (const auto& backend : backends_under_test()) {
    SCOPED_TRACE(backend->name());
    const auto training = make_training_backend(*backend).value();
    std::vector<DType> dtypes = {DType::kF32};
    if (backend->name() == "cuda") dtypes.push_back(DType::kBF16);
    for (OpCase& op : cases) {
      for (const DType dtype : dtypes) {
        SCOPED_TRACE(op.name + ' ' + std::string(dtype_name(dtype)));
        const std::vector<Tensor> before = gradients_before(op, dtype);
        const std::vector<Tensor> once = run(op, *backend, *training, dtype, before);
        for (Input& input : op.inputs) {
          if (input.held != Held::kActivation) continue;
          const ConstTensorView first = input.values.view().rows(0, kFirst);
          const Tensor other = random_tensor(rng, DType::kF32, first.shape());
          std::copy_n(other.view().data<float>(), first.numel(), input.values.view().data<float>());
        }
        const std::vector<Tensor> perturbed = run(op, *backend, *training, dtype, before);
        for (size_t i = 0; i < once.size(); ++i) {
          if (op.inputs[i].held != Held::kActivation) continue;
          EXPECT_TRUE(bits_equal(copy_rows(perturbed[i], kFirst, kSecond).view(),
                                 copy_rows(once[i], kFirst, kSecond).view()))
              << "gradient " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace nemoforge::ops
