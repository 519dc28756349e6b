// What the tests of the model share: goldens, and sequences run through a model in pieces.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/integers.h"
#include "io/safetensors.h"
#include "model/model.h"
#include "ops/backend.h"
#include "ops/device_choice.h"
#include "tensor/buffer.h"

namespace nemoforge::model {

// The folder of the golden checkpoints: NEMOFORGE_GOLDEN_DIR, or the project's own.
inline std::string golden_folder(const std::string& name) {
  const char* folder = std::getenv("NEMOFORGE_GOLDEN_DIR");
  return (std::filesystem::path(folder != nullptr ? folder : NEMOFORGE_SOURCE_DIR "/tests/golden") / name)
      .string();
}

inline std::unique_ptr<ops::Backend> backend_named(const std::string& name) {
  return ops::make_backend(ops::parse_device_choice(name).value()).value();
}

// A matrix of logits in host memory.
struct Logits {
  int64_t num_rows = 0;
  int64_t vocab_size = 0;
  std::vector<float> values;

  [[nodiscard]] std::span<const float> row(int64_t row) const {
    return std::span(values).subspan(static_cast<size_t>(row * vocab_size), static_cast<size_t>(vocab_size));
  }
  [[nodiscard]] int32_t argmax(int64_t at) const {
    const auto values_of_row = row(at);
    return static_cast<int32_t>(std::max_element(values_of_row.begin(), values_of_row.end()) -
                                values_of_row.begin());
  }
  void append(const Logits& more) {
    vocab_size = more.vocab_size;
    num_rows += more.num_rows;
    values.insert(values.end(), more.values.begin(), more.values.end());
  }
  [[nodiscard]] Logits rows(int64_t begin, int64_t count) const {
    const auto first = values.begin() + begin * vocab_size;
    return {count, vocab_size, {first, first + count * vocab_size}};
  }
};

inline double max_abs_difference(std::span<const float> a, std::span<const float> b) {
  NF_CHECK(a.size() == b.size()) << a.size() << " against " << b.size();
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= worst)) worst = difference;  // NaN too
  }
  return worst;
}

// |a - b| / |b| over all elements.
inline double relative_l2(std::span<const float> a, std::span<const float> b) {
  NF_CHECK(a.size() == b.size());
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += difference * difference;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(error / norm);
}

// The median over the rows of the relative L2 error of each.
inline double median_row_relative_l2(const Logits& actual, std::span<const float> expected) {
  std::vector<double> errors;
  for (int64_t row = 0; row < actual.num_rows; ++row) {
    const auto size = static_cast<size_t>(actual.vocab_size);
    errors.push_back(relative_l2(actual.row(row), expected.subspan(static_cast<size_t>(row) * size, size)));
  }
  std::nth_element(errors.begin(), errors.begin() + static_cast<long>(errors.size() / 2), errors.end());
  return errors[errors.size() / 2];
}

// The expected tensors of a golden checkpoint.
class Golden {
 public:
  explicit Golden(const std::string& path) : file_(io::SafetensorsFile::open(path).value()) {}

  [[nodiscard]] std::vector<int32_t> ids(const std::string& name) const {
    const ConstTensorView tensor = file_.find(name).value();
    const auto* first = tensor.data<int64_t>();
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < tensor.numel(); ++i) ids.push_back(narrow<int32_t>(first[i]));
    return ids;
  }
  [[nodiscard]] std::span<const float> floats(const std::string& name) const {
    const ConstTensorView tensor = file_.find(name).value();
    return {tensor.data<float>(), static_cast<size_t>(tensor.numel())};
  }
  [[nodiscard]] bool has(const std::string& name) const { return file_.find(name).has_value(); }

 private:
  io::SafetensorsFile file_;
};

// A sequence in the caches of a test: its slot and blocks are its own from the beginning.
struct TestSequence {
  int32_t slot = 0;
  std::vector<int32_t> blocks;
  int64_t context_len = 0;
  const LoraAdapter* adapter = nullptr;

  [[nodiscard]] SequenceState state() const { return {context_len, slot, blocks, adapter}; }
};

// A model with caches for a few sequences of bounded length. Blocks of a sequence are scattered, as a pool in
// use gives them.
class TestModel {
 public:
  static constexpr int64_t kNumSlots = 8;
  static constexpr int64_t kBlockSize = 8;
  static constexpr int64_t kBlocksPerSlot = 64;

  TestModel(Model model) : model_(std::move(model)) {
    caches_ = model_
                  .allocate_caches({.num_slots = kNumSlots,
                                    .num_blocks = kNumSlots * kBlocksPerSlot,
                                    .block_size = kBlockSize,
                                    .kv_dtype = model_.dtype()})
                  .value();
  }
  static TestModel load(const std::string& folder, DType dtype, ops::Backend& backend) {
    auto model = Model::load(folder, dtype, backend);
    NF_CHECK(model.has_value()) << model.error().to_string();
    return TestModel(std::move(*model));
  }

  [[nodiscard]] Model& model() { return model_; }

  [[nodiscard]] static TestSequence sequence(int32_t slot, const LoraAdapter* adapter = nullptr) {
    TestSequence sequence{.slot = slot, .blocks = {}, .context_len = 0, .adapter = adapter};
    for (int64_t i = 0; i < kBlocksPerSlot; ++i) {
      sequence.blocks.push_back(narrow<int32_t>(i * kNumSlots + (slot + i) % kNumSlots));
    }
    return sequence;
  }

  Logits run(const Batch& batch, const HiddenStatesTap& tap = {}) {
    const TensorView view = model_.forward(batch, caches_, tap);
    Logits logits{view.size(0), view.size(1), std::vector<float>(static_cast<size_t>(view.numel()))};
    model_.backend().synchronize();
    if (view.numel() == 0) return logits;
    model_.backend().download(view.raw(), logits.values.data(), view.numel() * dtype_bytes(DType::kF32));
    return logits;
  }

  // All logits of the next tokens of a sequence, in prefill chunks of at most chunk_size rows.
  Logits prefill(TestSequence& sequence, std::span<const int32_t> ids, int64_t chunk_size = INT32_MAX) {
    Logits logits;
    while (!ids.empty()) {
      const auto chunk = ids.first(std::min(ids.size(), static_cast<size_t>(chunk_size)));
      Batch batch;
      batch.add_prefill(chunk, sequence.state(), WantedLogits::kAll);
      logits.append(run(batch));
      sequence.context_len += static_cast<int64_t>(chunk.size());
      ids = ids.subspan(chunk.size());
    }
    return logits;
  }

  // The logits after each of the next tokens of a sequence, one decode step a token.
  Logits decode(TestSequence& sequence, std::span<const int32_t> ids) {
    Logits logits;
    for (const int32_t id : ids) {
      Batch batch;
      batch.add_decode(id, sequence.state());
      logits.append(run(batch));
      ++sequence.context_len;
    }
    return logits;
  }

  // The prompt, and then the most likely token `count` times.
  std::vector<int32_t> greedy(std::span<const int32_t> prompt, size_t count) {
    TestSequence sequence = TestModel::sequence(0);
    Logits logits = prefill(sequence, prompt);
    std::vector<int32_t> ids = {logits.argmax(logits.num_rows - 1)};
    while (ids.size() < count) {
      logits = decode(sequence, std::span(ids).last(1));
      ids.push_back(logits.argmax(0));
    }
    return ids;
  }

 private:
  Model model_;
  ModelCaches caches_;
};

}  // namespace nemoforge::model
