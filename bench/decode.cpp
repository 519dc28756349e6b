#include "bench/decode.h"

#include <algorithm>
#include <vector>

#include "bench/machine.h"
#include "bench/model_work.h"
#include "bench/sequences.h"

namespace nemoforge::bench {
namespace {

constexpr int64_t kWarmUpSteps = 3;
constexpr int64_t kPrefillChunk = 256;
constexpr int64_t kDevicePrefillChunk = 4096;
// Of a longer context, keys and values are those of this many tokens over and over: the speed of a step
// depends on their bytes, and a prefill of a million tokens takes minutes.
constexpr int64_t kMaxPrefilled = 65536;

// One sequence with a past of `context_len` tokens.
void make_past(model::Model& model, const Sequences& sequences, Rng& rng, int64_t context_len) {
  const int64_t chunk = model.backend().shares_host_memory() ? kPrefillChunk : kDevicePrefillChunk;
  const int64_t num_passed = std::min(context_len, kMaxPrefilled);
  sequences.prefill(model, 0, 0, random_token_ids(rng, num_passed, model.config().vocab_size), chunk);
  if (num_passed < context_len) sequences.repeat_keys(model, 0, num_passed, context_len);
}

}  // namespace

Result<DecodeResult> run_decode(model::Model& model, const DecodeOptions& options) {
  const model::ModelConfig& config = model.config();
  const int64_t max_len = options.context_len + kWarmUpSteps + options.num_steps;
  NF_TRY(const Sequences sequences, Sequences::make(model, options.batch_size, max_len));
  Rng rng(options.seed);
  // One past for all: their tokens differ from the first step on.
  make_past(model, sequences, rng, options.context_len);
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
