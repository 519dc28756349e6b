#include "model/weights.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/temporary_folder.h"
#include "model/checkpoint_test_support.h"
#include "model/model_test_support.h"

namespace nemoforge::model {
namespace {

using testing::HasSubstr;

class WeightsTest : public testing::Test {
 protected:
  WeightsTest() { write_text(folder_.path("config.json"), kTinyConfig); }

  // Loads the folder as it stands.
  [[nodiscard]] Result<Weights> load(DType dtype = DType::kF32) {
    const auto config = load_model_config(folder_.path());
    NF_CHECK(config.has_value()) << config.error().message;
    return Weights::load(folder_.path(), *config, dtype, *backend_);
  }
  [[nodiscard]] Result<Weights> load(const TensorSet& tensors, DType dtype = DType::kF32) {
    tensors.write(folder_.path("model.safetensors"));
    return load(dtype);
  }
  void expect_refused(const TensorSet& tensors, ErrorCode code, const std::string& message) {
    const auto weights = load(tensors);
    ASSERT_FALSE(weights);
    EXPECT_EQ(weights.error().code, code);
    EXPECT_THAT(weights.error().message, HasSubstr(message));
    EXPECT_THAT(weights.error().message, HasSubstr(folder_.path()));
    EXPECT_EQ(weights.error().message.find('\n'), std::string::npos);
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
  std::unique_ptr<ops::Backend> backend_ = backend_named("cpu");
};

TEST_F(WeightsTest, linear_weights_of_fp32_are_views_into_the_mapped_file) {
  auto weights = load(tiny_tensors());
  ASSERT_TRUE(weights) << weights.error().message;
  // Views into one file lie within its size of one another; copies would be anywhere.
  const auto* head = static_cast<const char*>((*weights)->lm_head.weight.raw());
  const auto* table = static_cast<const char*>((*weights)->embeddings.raw());
  const auto size = static_cast<long>(std::filesystem::file_size(folder_.path("model.safetensors")));
  EXPECT_LT(std::abs(head - table), size);
}

TEST_F(WeightsTest, bf16_computation_rounds_linear_weights_once_and_keeps_the_recurrence_in_f32) {
  auto weights = load(tiny_tensors(), DType::kBF16);
  ASSERT_TRUE(weights) << weights.error().message;
  const auto& mamba = std::get<MambaWeights>((*weights)->layers[0].mixer);
  const auto& moe = std::get<MoeWeights>((*weights)->layers[1].mixer);
  EXPECT_EQ(mamba.in_proj.weight.dtype(), DType::kBF16);
  EXPECT_EQ(moe.up_proj[1].weight.dtype(), DType::kBF16);
  EXPECT_EQ((*weights)->lm_head.weight.dtype(), DType::kBF16);
  EXPECT_EQ(moe.gate.weight.dtype(), DType::kF32);
  EXPECT_EQ(mamba.a_log.dtype(), DType::kF32);
  const auto file = io::SafetensorsFile::open(folder_.path("model.safetensors"));
  const ConstTensorView stored = *file->find("backbone.layers.0.mixer.in_proj.weight");
  for (int64_t i = 0; i < stored.numel(); ++i) {
    EXPECT_EQ(mamba.in_proj.weight.data<Bf16>()[i].bits, Bf16(stored.data<float>()[i]).bits);
  }
}

TEST_F(WeightsTest, mixed_storage_types_load) {
  TensorSet tensors = tiny_tensors();
  tensors.set("backbone.layers.0.mixer.A_log", {2}, DType::kBF16);
  tensors.set("backbone.layers.2.mixer.q_proj.weight", {8, 8}, DType::kF16);
  tensors.set("backbone.layers.1.norm.weight", {8}, DType::kBF16);
  const auto weights = load(tensors);
  ASSERT_TRUE(weights) << weights.error().message;
  EXPECT_EQ(std::get<MambaWeights>((*weights)->layers[0].mixer).a_log.dtype(), DType::kF32);
  EXPECT_EQ(std::get<AttentionWeights>((*weights)->layers[2].mixer).q_proj.weight.dtype(), DType::kF16);
  EXPECT_EQ((*weights)->layers[1].norm.dtype(), DType::kBF16);
}

TEST_F(WeightsTest, refuses_a_missing_tensor) {
  TensorSet tensors = tiny_tensors();
  tensors.erase("backbone.layers.2.mixer.q_proj.weight");
  expect_refused(tensors, ErrorCode::kInvalidData,
                 "tensor \"backbone.layers.2.mixer.q_proj.weight\" of shape [8, 8] is missing");
}

TEST_F(WeightsTest, refuses_an_extra_tensor) {
  TensorSet tensors = tiny_tensors();
  tensors.set("backbone.layers.2.mixer.q_norm.weight", {4});
  tensors.set("backbone.layers.4.norm.weight", {8});
  expect_refused(
      tensors, ErrorCode::kInvalidData,
      "model.safetensors: tensor \"backbone.layers.2.mixer.q_norm.weight\" of shape [4] has no place in "
      "the model that config.json describes (nor 1 others)");
}

TEST_F(WeightsTest, refuses_a_wrong_shape_with_both_shapes) {
  TensorSet tensors = tiny_tensors();
  tensors.set("backbone.layers.1.mixer.experts.1.up_proj.weight", {8, 6});
  expect_refused(
      tensors, ErrorCode::kInvalidData,
      "model.safetensors: tensor \"backbone.layers.1.mixer.experts.1.up_proj.weight\" has shape [8, 6], "
      "config.json asks for [6, 8]");
}

TEST_F(WeightsTest, refuses_one_tensor_under_two_names) {
  TensorSet tensors = tiny_tensors();
  tensors.set("model.norm_f.weight", {8});
  expect_refused(tensors, ErrorCode::kInvalidData,
                 "tensor \"model.norm_f.weight\" is also there as \"backbone.norm_f.weight\"");
}

TEST_F(WeightsTest, refuses_quantised_formats_by_their_names) {
  TensorSet fp8 = tiny_tensors();
  fp8.set("backbone.layers.2.mixer.q_proj.weight", {8, 8}, DType::kF8E4M3);
  expect_refused(fp8, ErrorCode::kUnsupported,
                 "stored as FP8 (float8_e4m3fn), which nemoforge does not read yet");
  TensorSet nvfp4 = tiny_tensors();
  nvfp4.set("backbone.layers.2.mixer.q_proj.weight", {8, 4}, DType::kU8);
  expect_refused(nvfp4, ErrorCode::kUnsupported, "stored as NVFP4");
  TensorSet other = tiny_tensors();
  other.set("backbone.layers.2.mixer.q_proj.weight", {8, 8}, DType::kI32);
  expect_refused(other, ErrorCode::kUnsupported, "is I32, not F32, BF16 or F16");
  TensorSet mixed = tiny_tensors();
  mixed.set("backbone.layers.1.mixer.experts.1.up_proj.weight", {6, 8}, DType::kBF16);
  expect_refused(mixed, ErrorCode::kUnsupported, "is BF16, but other experts of its layer are F32");
}

TEST_F(WeightsTest, refuses_a_truncated_file) {
  tiny_tensors().write(folder_.path("model.safetensors"));
  const auto path = folder_.path("model.safetensors");
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 100);
  const auto weights = load();
  ASSERT_FALSE(weights);
  EXPECT_THAT(weights.error().message, HasSubstr("model.safetensors: tensor \""));
  EXPECT_THAT(weights.error().message, HasSubstr("(is it truncated?)"));
}

TEST_F(WeightsTest, leaves_out_multi_token_prediction) {
  TensorSet tensors = tiny_tensors();
  tensors.set("mtp.layers.0.norm.weight", {8});
  tensors.set("backbone.mtp.layers.0.norm.weight", {8}, DType::kU8);
  EXPECT_TRUE(load(tensors));
}

TEST_F(WeightsTest, ties_the_head_to_the_embeddings_where_config_says_so) {
  std::string config(kTinyConfig);
  config.insert(1, "\"tie_word_embeddings\": true,");
  write_text(folder_.path("config.json"), config);
  TensorSet tensors = tiny_tensors();
  tensors.erase("lm_head.weight");
  auto weights = load(tensors);
  ASSERT_TRUE(weights) << weights.error().message;
  EXPECT_EQ((*weights)->lm_head.weight.raw(), (*weights)->embeddings.raw());
  EXPECT_TRUE(load(tiny_tensors())) << "a head of its own is used where there is one";
  write_text(folder_.path("config.json"), kTinyConfig);
  expect_refused(tensors, ErrorCode::kInvalidData, "tensor \"lm_head.weight\" of shape [10, 8] is missing");
}

TEST_F(WeightsTest, random_weights_repeat_with_their_seed_and_run) {
  const auto config = load_model_config(folder_.path()).value();
  const auto head = [&](uint64_t seed) {
    const Weights weights = Weights::random(config, DType::kBF16, seed, *backend_).value();
    const auto* first = weights->lm_head.weight.data<Bf16>();
    std::vector<uint16_t> bits;
    for (int64_t i = 0; i < weights->lm_head.weight.numel(); ++i) bits.push_back(first[i].bits);
    return bits;
  };
  EXPECT_EQ(head(3), head(3));
  EXPECT_NE(head(3), head(4));
  TestModel model(
      Model(config, Weights::random(config, DType::kBF16, 3, *backend_).value(), DType::kBF16, *backend_));
  TestSequence sequence = TestModel::sequence(0);
  const int32_t ids[] = {1, 2, 3, 4};
  const Logits logits = model.prefill(sequence, ids);
  for (const float value : logits.values) EXPECT_TRUE(std::isfinite(value) && std::abs(value) < 100) << value;
}

}  // namespace
}  // namespace nemoforge::model
