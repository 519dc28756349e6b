#include "train/agreement.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/integers.h"
#include "train/packing.h"

namespace nemoforge::train {
namespace {

constexpr int64_t kPrefillRows = 256;

// Rows of a document that go through the model together: up to the first one whose logits are wanted.
int64_t piece_rows(std::span<const int32_t> targets) {
  int64_t count = 0;
  for (const int32_t target : targets) {
    ++count;
    if (target >= 0 || count == kPrefillRows) break;
  }
  return count;
}

// Targets beyond `max_targets` lose their loss.
void limit_targets(TrainBatch& batch, int64_t max_targets) {
  int64_t count = 0;
  for (int32_t& target : batch.targets) {
    if (target >= 0 && ++count > max_targets) target = -1;
  }
}

std::vector<int32_t> wanted_tokens(const TrainBatch& batch) {
  std::vector<int32_t> tokens;
  std::ranges::copy_if(batch.targets, std::back_inserter(tokens), [](int32_t target) { return target >= 0; });
  return tokens;
}

std::vector<double> log_softmax(std::span<const float> logits) {
  const auto top = static_cast<double>(std::ranges::max(logits));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - top);
  const double log_sum = top + std::log(sum);
  std::vector<double> result(logits.size());
  std::ranges::transform(logits, result.begin(),
                         [&](float logit) { return static_cast<double>(logit) - log_sum; });
  return result;
}

// Adds a row's KL to the sum in mean_kl.
Status add_row(std::span<const float> first, std::span<const float> second, int32_t token,
               Agreement& agreement) {
  const std::vector<double> log_first = log_softmax(first);
  const std::vector<double> log_second = log_softmax(second);
  double kl = 0;
  for (size_t i = 0; i < log_first.size(); ++i) {
    kl += std::exp(log_first[i]) * (log_first[i] - log_second[i]);
  }
  const auto at = static_cast<size_t>(token);
  const double difference = std::abs(log_first[at] - log_second[at]);
  if (!std::isfinite(kl) || !std::isfinite(difference)) {
    return error(ErrorCode::kInvalidData, "the logits of a trained text are not finite");
  }
  agreement.mean_kl += kl;
  agreement.max_logprob_difference = std::max(agreement.max_logprob_difference, difference);
  ++agreement.num_tokens;
  return {};
}

}  // namespace

TargetLogits trained_logits(TrainableModel& model) {
  return [&model](const TrainBatch& batch) -> Result<std::vector<float>> {
    std::vector<float> logits;
    NF_TRY([[maybe_unused]] const LossSum loss,
           model.evaluate(batch, [&](std::span<const int32_t> /*rows*/, std::span<const float> piece) {
             logits.insert(logits.end(), piece.begin(), piece.end());
           }));
    return logits;
  };
}

Result<ServedModel> ServedModel::load(const std::string& folder, const std::string& lora,
                                      ops::Backend& backend, DType dtype) {
  NF_TRY(model::Model model, model::Model::load(folder, dtype, backend));
  std::unique_ptr<model::LoraAdapter> adapter;
  if (!lora.empty()) {
    NF_TRY(model::LoraAdapter loaded, model::LoraAdapter::load(lora, model.config(), backend));
    adapter = std::make_unique<model::LoraAdapter>(std::move(loaded));
  }
  return ServedModel(std::move(model), std::move(adapter));
}

Result<std::vector<float>> ServedModel::logits(const TrainBatch& batch) {
  NF_CHECK(batch.num_documents() == 1) << batch.num_documents();
  model::CacheSizes sizes;
  sizes.num_blocks = ceil_div(batch.num_rows(), sizes.block_size);
  NF_TRY(const model::ModelCaches caches, model_.allocate_caches(sizes));
  std::vector<int32_t> kv_blocks;
  for (int64_t block = 0; block < sizes.num_blocks; ++block) kv_blocks.push_back(narrow<int32_t>(block));
  std::vector<float> logits;
  model::Batch pass;
  for (int64_t row = 0; row < batch.num_rows();) {
    const auto offset = static_cast<size_t>(row);
    const int64_t count = piece_rows(std::span(batch.targets).subspan(offset));
    const auto ids = std::span(batch.token_ids).subspan(offset, static_cast<size_t>(count));
    const bool is_wanted = batch.targets[offset + ids.size() - 1] >= 0;
    const model::SequenceState state{
        .context_len = row, .state_slot = 0, .kv_blocks = kv_blocks, .adapter = adapter_.get()};
    pass.clear();
    if (count == 1 && is_wanted && row > 0) {
      pass.add_decode(ids[0], state);
    } else {
      pass.add_prefill(ids, state, is_wanted ? model::WantedLogits::kLast : model::WantedLogits::kNone);
    }
    const TensorView out = model_.forward(pass, caches);
    row += count;
    if (!is_wanted) continue;
    const size_t num_before = logits.size();
    logits.resize(num_before + static_cast<size_t>(out.numel()));
    model_.backend().synchronize();
    model_.backend().download(out.raw(), logits.data() + num_before, out.numel() * dtype_bytes(DType::kF32));
  }
  return logits;
}

TargetLogits served_logits(ServedModel& model) {
  return [&model](const TrainBatch& batch) { return model.logits(batch); };
}

Result<Agreement> measure_agreement(std::span<const SftDocument> documents, const TargetLogits& first,
                                    const TargetLogits& second) {
  Agreement agreement;
  for (auto document = static_cast<int64_t>(documents.size()) - 1; document >= 0; --document) {
    if (agreement.num_tokens == kMaxComparedTokens) break;
    TrainBatch batch = make_train_batch(documents, std::array{document});
    limit_targets(batch, kMaxComparedTokens - agreement.num_tokens);
    const std::vector<int32_t> tokens = wanted_tokens(batch);
    if (tokens.empty()) continue;
    NF_TRY(const std::vector<float> a, first(batch));
    NF_TRY(const std::vector<float> b, second(batch));
    NF_CHECK(a.size() == b.size() && a.size() % tokens.size() == 0) << a.size() << " against " << b.size();
    const size_t vocab_size = a.size() / tokens.size();
    for (size_t i = 0; i < tokens.size(); ++i) {
      NF_RETURN_IF_ERROR(add_row(std::span(a).subspan(i * vocab_size, vocab_size),
                                 std::span(b).subspan(i * vocab_size, vocab_size), tokens[i], agreement));
    }
  }
  if (agreement.num_tokens > 0) agreement.mean_kl /= static_cast<double>(agreement.num_tokens);
  return agreement;
}

}  // namespace nemoforge::train
