// Tokens/s of the engine on the demo checkpoint by number of sequences, and the engine's own share of a step:
// scheduling, sampling and emission, beside the model's forward pass.
#include <string>

#include <benchmark/benchmark.h>

#include "base/check.h"
#include "engine/generate.h"
#include "model/model.h"
#include "ops/backend.h"
#include "text/tokenizer/tokenizer.h"

namespace nemoforge::engine {
namespace {

struct DemoModel {
  DemoModel() : backend(ops::make_cpu_backend()) {
    const std::string folder = std::string(NEMOFORGE_SOURCE_DIR) + "/models/demo";
    auto loaded = model::Model::load(folder, DType::kF32, *backend);
    NF_CHECK(loaded) << loaded.error().message;
    model = std::make_unique<model::Model>(std::move(*loaded));
    auto read = text::Tokenizer::load(folder);
    NF_CHECK(read) << read.error().message;
    tokenizer = std::make_unique<text::Tokenizer>(std::move(*read));
  }
  std::unique_ptr<ops::Backend> backend;
  std::unique_ptr<model::Model> model;
  std::unique_ptr<text::Tokenizer> tokenizer;
};

void decode(benchmark::State& state) {
  static DemoModel demo;
  EngineConfig config;
  config.max_num_seqs = state.range(0);
  config.max_model_len = 512;
  auto engine = Engine::create(*demo.model, demo.tokenizer.get(), config);
  NF_CHECK(engine) << engine.error().message;
  Request request;
  request.prompt_token_ids =
      demo.tokenizer->encode("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n");
  request.n = static_cast<int32_t>(state.range(0));
  request.max_tokens = 256;
  request.sampling.ignore_eos = true;
  request.sampling.seed = 1;
  for (auto _ : state) {
    const auto completions = generate(**engine, request);
    NF_CHECK(completions) << completions.error().message;
  }
  const EngineStats stats = (*engine)->stats();
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(stats.generation_tokens), benchmark::Counter::kIsRate);
  state.counters["own share"] = 1 - stats.forward_s / stats.step_s;
  state.counters["own us/token"] =
      (stats.step_s - stats.forward_s) * 1e6 / static_cast<double>(stats.generation_tokens);
}

BENCHMARK(decode)->Arg(1)->Arg(8)->Arg(64)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::engine

BENCHMARK_MAIN();
