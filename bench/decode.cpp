#include "bench/decode.h"

#include <vector>

#include "bench/machine.h"
#include "bench/model_work.h"
#include "bench/sequences.h"

namespace nemoforge::bench {
namespace {

constexpr int64_t kWarmUpSteps = 3;
constexpr int64_t kPrefillChunk = 256;

}  // namespace

Result<DecodeResult> run_decode(model::Model& model, const DecodeOptions& options) {
  const model::ModelConfig& config = model.config();
  const int64_t max_len = options.context_len + kWarmUpSteps + options.num_steps;
  NF_TRY(const Sequences sequences, Sequences::make(model, options.batch_size, max_len));
  Rng rng(options.seed);
  // One past for all: their tokens differ from the first step on.
  sequences.prefill(model, 0, 0, random_token_ids(rng, options.context_len, config.vocab_size),
                    kPrefillChunk);
  for (int64_t i = 1; i < options.batch_size; ++i) sequences.copy(model, 0, i);
  std::vector<double> seconds;
  model::Batch batch;
  for (int64_t step = 0; step < kWarmUpSteps + options.num_steps; ++step) {
    const auto ids = random_token_ids(rng, options.batch_size, config.vocab_size);
    const Stopwatch watch;
    batch.clear();
    for (int64_t i = 0; i < options.batch_size; ++i) {
      batch.add_decode(ids[static_cast<size_t>(i)], sequences.state(i, options.context_len + step));
    }
    model.forward(batch, sequences.caches());
    model.backend().synchronize();
    if (step >= kWarmUpSteps) seconds.push_back(watch.seconds());
  }
  DecodeResult result;
  result.step = summarise(std::move(seconds));
  result.tokens_per_s = static_cast<double>(options.batch_size) / result.step.median_s;
  result.weight_bytes = active_weight_bytes(config, model.weights(), options.batch_size);
  result.state_bytes = static_cast<double>(options.batch_size) *
                       state_bytes(config, model.dtype(), options.context_len + options.num_steps / 2);
  NF_TRY(result.read_gb_per_s, memory_gb_per_s(model.backend()));
  result.floor_tokens_per_s = static_cast<double>(options.batch_size) * result.read_gb_per_s * 1e9 /
                              (result.weight_bytes + result.state_bytes);
  result.fraction = result.tokens_per_s / result.floor_tokens_per_s;
  return result;
}

}  // namespace nemoforge::bench
