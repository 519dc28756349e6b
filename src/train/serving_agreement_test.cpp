// What was trained is what is served: log-probabilities of the trainer, of the server with the adapter that
// the trainer wrote, and of the checkpoint that it was merged into.
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/rng.h"
#include "base/temporary_folder.h"
#include "model/model_test_support.h"
#include "train/adapter_folder.h"
#include "train/agreement.h"
#include "train/merge.h"
#include "train/trainable_model.h"

namespace nemoforge::train {
namespace {

class ServingAgreement : public testing::TestWithParam<const char*> {
 protected:
  // An adapter that moves the logits, and a text of random tokens.
  ServingAgreement() {
    Rng rng(61);
    for (const Parameter& parameter : trained_.parameters().parameters) {
      auto* values = parameter.value.data<float>();
      for (int64_t i = 0; i < parameter.value.numel(); ++i)
        values[i] = static_cast<float>(0.1 * rng.normal());
    }
    for (int i = 0; i < 40; ++i) {
      ids_.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(config_.vocab_size))));
    }
    std::filesystem::create_directories(adapter_);
    const auto written =
        write_adapter(adapter_, trained_.parameters(), config_, lora_, AdapterLayout::kPerExpert, folder_);
    EXPECT_TRUE(written.has_value());
  }

  // Two answers in one text.
  [[nodiscard]] SftDocument document() const {
    SftDocument document{ids_, std::vector<bool>(ids_.size())};
    for (size_t i = 0; i < ids_.size(); ++i) document.has_loss[i] = (i >= 8 && i < 20) || i >= 27;
    return document;
  }
  [[nodiscard]] ServedModel serve(const std::string& folder, const std::string& lora) const {
    auto served = ServedModel::load(folder, lora, *backend_);
    EXPECT_TRUE(served.has_value());
    return std::move(*served);
  }
  [[nodiscard]] Agreement compare(const TargetLogits& first, const TargetLogits& second) const {
    const std::vector<SftDocument> documents = {document()};
    const auto agreement = measure_agreement(documents, first, second);
    EXPECT_TRUE(agreement.has_value());
    EXPECT_EQ(agreement->num_tokens, 25);
    return *agreement;
  }

  TemporaryFolder temporary_ = TemporaryFolder::create().value();
  std::string folder_ = model::golden_folder(GetParam());
  std::string adapter_ = temporary_.path("adapter");
  std::unique_ptr<ops::Backend> backend_ = model::backend_named("cpu");
  model::ModelConfig config_ = model::load_model_config(folder_).value();
  LoraOptions lora_{.targets = {}, .rank = 4};
  TrainableModel trained_ =
      TrainableModel::lora(config_,
                           std::move(*model::Weights::load(folder_, config_, DType::kF32, *backend_)), lora_,
                           *backend_)
          .value();
  std::vector<int32_t> ids_;
};

TEST_P(ServingAgreement, trainer_server_and_merged_checkpoint_give_the_text_the_same_probability) {
  ServedModel served = serve(folder_, adapter_);
  const Agreement trained = compare(trained_logits(trained_), served_logits(served));
  EXPECT_LT(trained.mean_kl, 1e-8);
  EXPECT_LT(trained.max_logprob_difference, 1e-4);  // pieces and decode steps round differently

  const std::string merged_folder = temporary_.path("merged");
  const auto num_merged = merge_adapter(folder_, adapter_, merged_folder);
  ASSERT_TRUE(num_merged.has_value()) << num_merged.error().to_string();
  ServedModel merged_model = serve(merged_folder, "");
  ServedModel base_model = serve(folder_, "");
  const Agreement merged = compare(served_logits(served), served_logits(merged_model));
  const Agreement base = compare(served_logits(served), served_logits(base_model));
  EXPECT_LT(merged.mean_kl, 1e-2 * base.mean_kl);  // the rounding to the checkpoint's element type
  EXPECT_GT(base.mean_kl, 1e-3);
  EXPECT_GT(base.max_logprob_difference, 0.05);
}

TEST_P(ServingAgreement, compares_a_bounded_number_of_tokens) {
  SftDocument document = this->document();
  document.has_loss.assign(document.has_loss.size(), true);
  const std::vector<SftDocument> documents(20, document);
  const auto agreement = measure_agreement(documents, trained_logits(trained_), trained_logits(trained_));
  ASSERT_TRUE(agreement.has_value());
  EXPECT_EQ(agreement->num_tokens, kMaxComparedTokens);
  EXPECT_EQ(agreement->mean_kl, 0);
  EXPECT_EQ(agreement->max_logprob_difference, 0);
}

// The definition, with two outcomes: KL((1/2, 1/2) || (1/4, 3/4)) = ln(2 / sqrt(3)).
TEST(Agreement, is_the_divergence_and_the_difference_of_the_text) {
  const std::vector<SftDocument> documents = {{{0, 1}, {false, true}}};
  const auto constant = [](const std::vector<float>& logits) -> TargetLogits {
    return [logits](const TrainBatch& /*batch*/) -> Result<std::vector<float>> { return logits; };
  };
  const auto agreement = measure_agreement(documents, constant({5, 5}), constant({0, std::log(3.0f)}));
  ASSERT_TRUE(agreement.has_value());
  EXPECT_EQ(agreement->num_tokens, 1);
  EXPECT_NEAR(agreement->mean_kl, std::log(2 / std::sqrt(3.0)), 1e-6);
  EXPECT_NEAR(agreement->max_logprob_difference, std::log(1.5), 1e-6);
  EXPECT_FALSE(measure_agreement(documents, constant({0, NAN}), constant({0, 0})).has_value());
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, ServingAgreement, testing::Values("tiny", "nano_shaped"));

}  // namespace
}  // namespace nemoforge::train
