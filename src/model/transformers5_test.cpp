// Checkpoints and adapters as transformers 5 and PEFT save them (testdata/make_transformers5.py): names
// "model.*", experts fused, biases everywhere, LoRA on all linear layers in the layout of target_parameters.
#include <string>

#include <gtest/gtest.h>

#include "model/lora_adapter.h"
#include "model/model_test_support.h"

namespace nemoforge::model {
namespace {

constexpr double kLogitTolerance = 2e-4;

class Transformers5Test : public testing::TestWithParam<const char*> {
 protected:
  [[nodiscard]] LoraAdapter adapter(const std::string& name) {
    auto adapter = LoraAdapter::load(folder_ + "/" + name, model_.model().config(), *backend_);
    NF_CHECK(adapter.has_value()) << adapter.error().to_string();
    return std::move(*adapter);
  }
  [[nodiscard]] Logits logits(const LoraAdapter* adapter) {
    TestSequence sequence = TestModel::sequence(0, adapter);
    return model_.prefill(sequence, golden_.ids("input_ids"));
  }

  std::string folder_ = NEMOFORGE_SOURCE_DIR "/src/model/testdata/transformers5";
  std::unique_ptr<ops::Backend> backend_ = backend_named(GetParam());
  Golden golden_{folder_ + "/golden.safetensors"};
  TestModel model_ = TestModel::load(folder_, DType::kF32, *backend_);
};

TEST_P(Transformers5Test, fused_experts_and_biases) {
  EXPECT_LE(max_abs_difference(logits(nullptr).values, golden_.floats("logits")), kLogitTolerance);
}

TEST_P(Transformers5Test, lora_on_every_linear_layer) {
  const LoraAdapter all = adapter("all_linears");
  EXPECT_EQ(all.matched().at("mixer.experts.up_proj"), 2 * 6);
  EXPECT_EQ(all.matched().at("mixer.out_proj"), 2);
  EXPECT_EQ(all.matched().size(), 12u);
  const Logits adapted = logits(&all);
  EXPECT_LE(max_abs_difference(adapted.values, golden_.floats("all_linears.logits")), kLogitTolerance);
  EXPECT_GT(max_abs_difference(adapted.values, golden_.floats("logits")), 0.1);
}

TEST_P(Transformers5Test, lora_with_rank_and_alpha_patterns_and_rank_stabilisation) {
  const LoraAdapter patterns = adapter("patterns");
  EXPECT_LE(max_abs_difference(logits(&patterns).values, golden_.floats("patterns.logits")), kLogitTolerance);
}

// The base and two adapters, decoding and prefilling, in one batch: each row equals its solo run, bit for
// bit.
TEST_P(Transformers5Test, adapters_in_one_batch_equal_their_solo_runs) {
  const LoraAdapter all = adapter("all_linears");
  const LoraAdapter patterns = adapter("patterns");
  const std::vector<int32_t> ids = golden_.ids("input_ids");
  const LoraAdapter* const adapters[] = {&all, nullptr, &patterns, &all, nullptr, &patterns};
  constexpr size_t kNumDecode = 3;
  const auto past = [&](size_t i) { return std::span(ids).subspan(i, 10 + i); };
  const auto now = [&](size_t i) { return std::span(ids).subspan(20, i < kNumDecode ? 1 : 4 + i); };
  std::vector<TestSequence> sequences;
  std::vector<Logits> alone;
  for (size_t i = 0; i < 6; ++i) {
    TestSequence solo = TestModel::sequence(7, adapters[i]);
    model_.prefill(solo, past(i));
    alone.push_back(i < kNumDecode ? model_.decode(solo, now(i)) : model_.prefill(solo, now(i)));
    sequences.push_back(TestModel::sequence(static_cast<int32_t>(i), adapters[i]));
    model_.prefill(sequences[i], past(i));
  }
  Batch batch;
  for (size_t i = 0; i < 6; ++i) {
    if (i < kNumDecode) {
      batch.add_decode(now(i)[0], sequences[i].state());
    } else {
      batch.add_prefill(now(i), sequences[i].state(), WantedLogits::kAll);
    }
  }
  const Logits together = model_.run(batch);
  int64_t row = 0;
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(together.rows(row, alone[i].num_rows).values, alone[i].values) << "sequence " << i;
    row += alone[i].num_rows;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Transformers5Test, testing::Values("reference", "cpu"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace nemoforge::model
