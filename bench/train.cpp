#include "bench/train.h"

#include <utility>
#include <vector>

#include "base/integers.h"
#include "bench/machine.h"
#include "bench/model_work.h"
#include "bench/sequences.h"

namespace nemoforge::bench {
namespace {

constexpr double kLearningRate = 1e-5;

// Of one step over `num_rows` rows, each weight's as often as it is multiplied by.
std::vector<MatrixProduct> train_products(const model::ModelConfig& config, int64_t num_rows, bool full) {
  std::vector<MatrixProduct> products = prefill_products(config, num_rows);
  for (MatrixProduct& product : products) product.count *= full ? 4 : 3;
  MatrixProduct& head = products.back();  // which a prefill has on one row
  head.rows = num_rows;
  head.count = full ? 3 : 2;
  return products;
}

}  // namespace

int64_t free_device_bytes(const ops::Backend& backend) {
  const auto memory = backend.device_memory();
  return memory ? memory->free_bytes : 0;
}

Result<TrainResult> run_train(train::TrainableModel& model, const TrainOptions& options, int64_t free_before,
                              int64_t free_with_weights) {
  TrainResult result;
  const int64_t free_with_model = free_device_bytes(model.backend());
  NF_TRY(train::AdamW optimizer, train::AdamW::on(model.backend(), model.parameters(), options.adamw));
  const int64_t free_with_moments = free_device_bytes(model.backend());
  Rng rng(options.seed);
  train::TrainBatch batch;
  batch.token_ids = random_token_ids(rng, options.sequence_len, model.config().vocab_size);
  batch.targets = random_token_ids(rng, options.sequence_len, model.config().vocab_size);
  batch.cu_seqlens = {0, narrow<int32_t>(options.sequence_len)};
  std::vector<double> seconds;
  for (int64_t repetition = -1; repetition < options.repetitions; ++repetition) {  // the first one warms up
    model.zero_gradients();
    const Stopwatch watch;
    const auto losses = model.accumulate_gradients(batch, 1.0F / static_cast<float>(options.sequence_len));
    if (!losses) return forward_error(losses);
    const double norm = optimizer.gradient_norm(model.parameters());
    optimizer.update(model.parameters(), repetition + 1, kLearningRate, norm > 1 ? 1 / norm : 1);
    model.backend().synchronize();
    if (repetition >= 0) seconds.push_back(watch.seconds());
  }
  const std::vector<MatrixProduct> products =
      train_products(model.config(), options.sequence_len, model.adapter() == nullptr);
  result.step = summarise(std::move(seconds));
  result.tokens_per_s = static_cast<double>(options.sequence_len) / result.step.median_s;
  const int64_t free_after = free_device_bytes(model.backend());
  result.memory = {.weights = free_before - free_with_weights,
                   .trained = free_with_weights - free_with_model,
                   .moments = free_with_model - free_with_moments,
                   .activations = free_with_moments - free_after,
                   .total = free_before - free_after};
  for (const MatrixProduct& product : products) result.matmul_flops += product.flops();
  NF_TRY(const double matmul_s, matmul_seconds(products, model.dtype(), model.backend()));
  result.matmul_tokens_per_s = static_cast<double>(options.sequence_len) / matmul_s;
  result.fraction = result.tokens_per_s / result.matmul_tokens_per_s;
  return result;
}

}  // namespace nemoforge::bench
