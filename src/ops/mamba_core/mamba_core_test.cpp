#include "ops/mamba_core/mamba_core.h"

#include <gtest/gtest.h>

#include "ops/op_test_support.h"
#include "ops/ragged_batch.h"

namespace nemoforge::ops {
namespace {

constexpr uint64_t kSeed = 41;

struct MambaCoreCase {
  const char* reason = "";
  std::vector<SequenceCase> sequences = {{1, 7, true}};
  int64_t num_heads = 8;
  int64_t head_dim = 16;
  int64_t num_groups = 2;
  int64_t state_size = 32;
  int64_t conv_kernel = 4;
  DType dtype = DType::kBF16;
  DType weights = DType::kF32;  // of the convolution and the norm
  bool bias = true;

  [[nodiscard]] int64_t inner() const { return num_heads * head_dim; }
  [[nodiscard]] int64_t channels() const { return inner() + 2 * num_groups * state_size; }
};

std::vector<MambaCoreCase> cases() {
  const std::vector<SequenceCase> five = {
      {1, 3, true}, {1, 0, true}, {1, 900, true}, {1, 0, true}, {1, 1, true}};
  MambaCoreCase nano{.reason = "Nemotron-3-Nano, one sequence"};
  nano.num_heads = 64;
  nano.head_dim = 64;
  nano.num_groups = 8;
  nano.state_size = 128;
  MambaCoreCase nano_batch = nano;
  nano_batch.reason = "Nemotron-3-Nano, five sequences, two of which begin";
  nano_batch.sequences = five;
  MambaCoreCase odd{.reason = "odd widths, one head a group", .sequences = five};
  odd.num_heads = 3;
  odd.head_dim = 5;
  odd.num_groups = 3;
  odd.state_size = 33;
  odd.conv_kernel = 2;
  odd.dtype = DType::kF32;
  return {nano,
          nano_batch,
          odd,
          {.reason = "fp32", .sequences = five, .dtype = DType::kF32},
          {.reason = "no bias, eight taps", .sequences = five, .conv_kernel = 8, .bias = false},
          {.reason = "bf16 weights", .sequences = five, .weights = DType::kBF16},
          {.reason = "a prompt beside sequences that decode",
           .sequences = {{1, 4, true}, {1, 9, true}, {70, 0, false}}},
          {.reason = "nine heads a group", .num_heads = 9, .num_groups = 1},
          {.reason = "wide heads", .head_dim = 80}};
}

struct Inputs {
  explicit Inputs(const MambaCoreCase& c, int64_t num_tokens, int64_t num_slots) {
    Rng rng(kSeed);
    const double scale = 1 / std::sqrt(std::sqrt(static_cast<double>(c.state_size)));
    projected = random_tensor(rng, c.dtype, Shape{num_tokens, c.inner() + c.channels() + c.num_heads}, scale);
    conv_weight = random_tensor(rng, c.weights, Shape{c.channels(), c.conv_kernel});
    conv_bias = random_tensor(rng, c.weights, Shape{c.channels()}, 0.2);
    norm_weight = random_tensor(rng, c.weights, Shape{c.inner()}, 0.3, 1);
    a_log = random_tensor(rng, DType::kF32, Shape{c.num_heads}, 0.5);
    d = random_tensor(rng, DType::kF32, Shape{c.num_heads});
    dt_bias = random_tensor(rng, DType::kF32, Shape{c.num_heads});
    conv_state = random_tensor(rng, c.dtype, Shape{num_slots, c.conv_kernel - 1, c.channels()});
    ssm_state = random_tensor(rng, DType::kF32, Shape{num_slots, c.num_heads, c.head_dim, c.state_size}, 0.3);
  }
  Tensor projected, conv_weight, conv_bias, norm_weight, a_log, d, dt_bias, conv_state, ssm_state;
};

struct Outputs {
  Tensor out, conv_state, ssm_state;
};

// `detached`: the scan does not read what the convolution writes.
Outputs run(Backend& backend, const MambaCoreCase& c, bool detached = false) {
  const RaggedBatch batch(backend, c.sequences);
  const int64_t num_tokens = batch.rows().num_tokens;
  const Inputs inputs(c, num_tokens, batch.num_slots());
  GuardedTensor projected(backend, inputs.projected.view());
  GuardedTensor conv_weight(backend, inputs.conv_weight.view());
  GuardedTensor conv_bias(backend, inputs.conv_bias.view());
  GuardedTensor norm_weight(backend, inputs.norm_weight.view());
  GuardedTensor a_log(backend, inputs.a_log.view());
  GuardedTensor d(backend, inputs.d.view());
  GuardedTensor dt_bias(backend, inputs.dt_bias.view());
  GuardedTensor conv_state(backend, inputs.conv_state.view());
  GuardedTensor ssm_state(backend, inputs.ssm_state.view());
  GuardedTensor convolved(backend, c.dtype, Shape{num_tokens, c.channels()});
  GuardedTensor scanned(backend, DType::kF32, Shape{num_tokens, c.inner()});
  GuardedTensor out(backend, c.dtype, Shape{num_tokens, c.inner()});
  const int64_t bc = c.num_groups * c.state_size;
  backend.mamba_core({.conv = {.rows = &batch.rows(),
                               .x = projected.view().columns(c.inner(), c.channels()),
                               .weight = conv_weight.view(),
                               .bias = c.bias ? conv_bias.view() : TensorView(),
                               .conv_state = conv_state.view(),
                               .out = convolved.view()},
                      .scan = {.rows = &batch.rows(),
                               .x = (detached ? projected : convolved).view().columns(0, c.inner()),
                               .b = convolved.view().columns(c.inner(), bc),
                               .c = convolved.view().columns(c.inner() + bc, bc),
                               .dt_raw = projected.view().columns(c.inner() + c.channels(), c.num_heads),
                               .a_log = a_log.view(),
                               .d = d.view(),
                               .dt_bias = dt_bias.view(),
                               .num_heads = c.num_heads,
                               .head_dim = c.head_dim,
                               .num_groups = c.num_groups,
                               .state_size = c.state_size,
                               .chunk_size = 64,
                               .ssm_state = ssm_state.view(),
                               .y = scanned.view()},
                      .norm = {.y = scanned.view(),
                               .z = projected.view().columns(0, c.inner()),
                               .weight = norm_weight.view(),
                               .num_groups = c.num_groups,
                               .epsilon = 1e-5F,
                               .out = out.view()}});
  return {out.download(), conv_state.download(), ssm_state.download()};
}

// A convolved channel at the edge of a rounding to bf16 may round the other way in the reference: a step of
// bf16 in an input of the scan, besides the rounding of the result.
Tolerance core_tolerance(DType dtype) {
  if (dtype == DType::kBF16) return {0x1p-8, 0x1p-7};
  return tolerance_of(dtype, OpClass::kScan);
}

TEST(MambaCore, matches_the_reference) {
  ReferenceBackend reference;
  for (const auto& backend : backends_under_test()) {
    for (const MambaCoreCase& c : cases()) {
      SCOPED_TRACE(testing::Message() << backend->name() << ": " << c.reason << ", seed " << kSeed);
      const Outputs expected = run(reference, c);
      const Outputs actual = run(*backend, c);
      EXPECT_TRUE(all_close(actual.out.view(), expected.out.view(), core_tolerance(c.dtype)));
      EXPECT_TRUE(all_close(actual.ssm_state.view(), expected.ssm_state.view(), core_tolerance(c.dtype)));
      EXPECT_TRUE(bits_equal(actual.conv_state.view(), expected.conv_state.view()));
    }
  }
}

TEST(MambaCore, rejects_ops_that_do_not_read_each_others_results) {
  for (const auto& backend : backends_under_test()) {
    EXPECT_THROW(run(*backend, MambaCoreCase{}, true), InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
