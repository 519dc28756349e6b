// What was trained is what is served: log-probabilities of the trainer, of the server with the adapter that
// the trainer wrote, and of the checkpoint that it was merged into.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/rng.h"
#include "model/checkpoint_test_support.h"
#include "model/model_test_support.h"
#include "train/adapter_folder.h"
#include "train/merge.h"
#include "train/trainable_model.h"

namespace nemoforge::train {
namespace {

std::vector<double> log_softmax(std::span<const float> logits) {
  const auto top = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - top);
  std::vector<double> result;
  for (const float logit : logits) result.push_back(static_cast<double>(logit) - top - std::log(sum));
  return result;
}

// Mean over the rows of KL(a || b), nats.
double mean_kl(const model::Logits& a, const model::Logits& b) {
  double sum = 0;
  for (int64_t row = 0; row < a.num_rows; ++row) {
    const std::vector<double> log_a = log_softmax(a.row(row));
    const std::vector<double> log_b = log_softmax(b.row(row));
    for (size_t i = 0; i < log_a.size(); ++i) sum += std::exp(log_a[i]) * (log_a[i] - log_b[i]);
  }
  return sum / static_cast<double>(a.num_rows);
}

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

  model::Logits serve(const std::string& folder, const model::LoraAdapter* adapter) {
    auto served = model::TestModel::load(folder, DType::kF32, *backend_);
    model::TestSequence sequence = model::TestModel::sequence(0, adapter);
    return served.prefill(sequence, ids_, 16);
  }

  model::TemporaryFolder temporary_;
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
  TrainBatch batch{.token_ids = ids_, .targets = {}, .cu_seqlens = {0, static_cast<int32_t>(ids_.size())}};
  for (size_t i = 0; i < ids_.size(); ++i) batch.targets.push_back(i + 1 < ids_.size() ? ids_[i + 1] : -1);
  const std::vector<float> losses = trained_.token_losses(batch).value();
  const auto adapter = model::LoraAdapter::load(adapter_, config_, *backend_);
  ASSERT_TRUE(adapter.has_value());
  const model::Logits served = serve(folder_, &*adapter);
  double worst = 0;
  for (size_t i = 0; i + 1 < ids_.size(); ++i) {
    const double served_loss =
        -log_softmax(served.row(static_cast<int64_t>(i)))[static_cast<size_t>(ids_[i + 1])];
    worst = std::max(worst, std::abs(served_loss - static_cast<double>(losses[i])));
  }
  EXPECT_LT(worst, 1e-4);  // chunks of 16 rows round differently

  const std::string merged_folder = temporary_.path("merged");
  const auto num_merged = merge_adapter(folder_, adapter_, merged_folder);
  ASSERT_TRUE(num_merged.has_value()) << num_merged.error().to_string();
  const model::Logits merged = serve(merged_folder, nullptr);
  const double merged_kl = mean_kl(served, merged);
  const double base_kl = mean_kl(served, serve(folder_, nullptr));
  RecordProperty("merged_kl", std::to_string(merged_kl));
  RecordProperty("base_kl", std::to_string(base_kl));
  EXPECT_LT(merged_kl, 1e-2 * base_kl);  // the rounding to the checkpoint's element type
  EXPECT_GT(base_kl, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, ServingAgreement, testing::Values("tiny", "nano_shaped"));

}  // namespace
}  // namespace nemoforge::train
