// The bundled demo checkpoint against what transformers computed with it (models/demo/parity.json).
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "io/json.h"
#include "model/model_test_support.h"

namespace nemoforge::model {
namespace {

constexpr const char* kFolder = NEMOFORGE_SOURCE_DIR "/models/demo";

// The CPU, or the backend that NEMOFORGE_BACKEND names.
std::unique_ptr<ops::Backend> backend_under_test() {
  const char* wanted = std::getenv("NEMOFORGE_BACKEND");
  return backend_named(wanted != nullptr ? wanted : "cpu");
}

class DemoTest : public testing::Test {
 protected:
  std::unique_ptr<ops::Backend> backend_ = backend_under_test();
  TestModel model_ = TestModel::load(kFolder, DType::kF32, *backend_);
  io::Json parity_ = io::read_json_file(std::string(kFolder) + "/parity.json").value();
};

TEST_F(DemoTest, top_five_and_greedy_continuation_of_every_prompt) {
  ASSERT_EQ(parity_["prompts"].size(), 3u);
  for (const io::Json& prompt : parity_["prompts"]) {
    const auto ids = prompt["input_ids"].get<std::vector<int32_t>>();
    TestSequence sequence = TestModel::sequence(0);
    const Logits logits = model_.prefill(sequence, ids);
    const auto last = logits.row(logits.num_rows - 1);
    std::vector<int32_t> order(last.size());
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + 5, order.end(), [&](int32_t a, int32_t b) {
      return last[static_cast<size_t>(a)] > last[static_cast<size_t>(b)];
    });
    order.resize(5);
    EXPECT_EQ(order, prompt["top5_ids"].get<std::vector<int32_t>>());
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_NEAR(last[static_cast<size_t>(order[i])], prompt["top5_logits"][i].get<float>(),
                  backend_->name() == "cuda" ? 2e-3 : 2e-4);
    }
    const auto greedy = prompt["greedy_64"].get<std::vector<int32_t>>();
    EXPECT_EQ(model_.greedy(ids, greedy.size()), greedy);
  }
}

TEST_F(DemoTest, bf16_stays_close_to_fp32) {
  TestModel bf16 = TestModel::load(kFolder, DType::kBF16, *backend_);
  for (const io::Json& prompt : parity_["prompts"]) {
    const auto ids = prompt["input_ids"].get<std::vector<int32_t>>();
    TestSequence a = TestModel::sequence(0);
    TestSequence b = TestModel::sequence(0);
    const Logits expected = model_.prefill(a, ids);
    const Logits actual = bf16.prefill(b, ids);
    EXPECT_LE(median_row_relative_l2(actual, expected.values), 1.5e-2);
    EXPECT_LE(relative_l2(actual.values, expected.values), 1.5e-2);
  }
}

}  // namespace
}  // namespace nemoforge::model
