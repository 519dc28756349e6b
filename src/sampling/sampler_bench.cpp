// The cost of one choice over Nemotron-3-Nano's vocabulary, beside the time to read the row once.
#include <benchmark/benchmark.h>

#include "base/rng.h"
#include "sampling/logit_kernels.h"
#include "sampling/sampler.h"

namespace nemoforge::sampling {
namespace {

std::vector<float> vocabulary_logits() {
  Rng rng(3);
  std::vector<float> logits(131072);
  for (float& logit : logits) logit = static_cast<float>(2.5 * rng.normal());
  return logits;
}

void run(benchmark::State& state, const SamplingParams& params) {
  const std::vector<float> logits = vocabulary_logits();
  SampleScratch scratch;
  SampleInput input{.logits = logits, .params = &params};
  for (auto _ : state) {
    ++input.position;
    benchmark::DoNotOptimize(sample(input, scratch));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(logits.size() * sizeof(float)));
}

SamplingParams with(float temperature, float top_p, int32_t top_k, std::optional<int32_t> top_logprobs = {}) {
  SamplingParams params;
  params.temperature = temperature;
  params.top_p = top_p;
  params.top_k = top_k;
  params.top_logprobs = top_logprobs;
  return params;
}

void read_once(benchmark::State& state) {
  const std::vector<float> logits = vocabulary_logits();
  for (auto _ : state) benchmark::DoNotOptimize(sum(logits));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(logits.size() * sizeof(float)));
}

BENCHMARK(read_once)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run, greedy, with(0, 1, 0))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run, temperature, with(1, 1, 0))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run, top_p, with(0.6F, 0.95F, 0))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run, top_k, with(1, 1, 50))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run, top_p_logprobs, with(0.6F, 0.95F, 0, 20))->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace nemoforge::sampling

BENCHMARK_MAIN();
