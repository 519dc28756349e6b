// nemoforge_bench_bench [nano PATTERN | DIR] [bf16|fp32] [decode BATCH | prefill ROWS | load FOLDER]
// Prints one line; without arguments: decode and prefill of the demo checkpoint.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "bench/decode.h"
#include "bench/load.h"
#include "bench/model_work.h"
#include "bench/prefill.h"

namespace {

using namespace nemoforge;

template <typename T>
T value_or_exit(Result<T> result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "%s\n", result.error().to_string().c_str());
  std::exit(1);
}

void print(const std::string& name, const bench::DecodeResult& result, int64_t batch_size) {
  std::printf(
      "decode %s batch %ld: %.2f tokens/s (step %.3f ms, p10 %.3f, p90 %.3f); %.1f MB of weights, %.1f MB of "
      "state; "
      "read %.1f GB/s; floor %.2f tokens/s; %.0f%%\n",
      name.c_str(), batch_size, result.tokens_per_s, 1e3 * result.step.median_s, 1e3 * result.step.p10_s,
      1e3 * result.step.p90_s, result.weight_bytes / 1e6, result.state_bytes / 1e6, result.read_gb_per_s,
      result.floor_tokens_per_s, 100 * result.fraction);
}

void print(const std::string& name, const bench::PrefillResult& result, int64_t prompt_len) {
  std::printf(
      "prefill %s %ld rows: %.1f tokens/s (%.1f ms); %.1f GFLOP of products at %.1f GFLOP/s; oneDNN alone "
      "%.1f "
      "tokens/s; %.0f%%\n",
      name.c_str(), prompt_len, result.tokens_per_s, 1e3 * result.prompt.median_s, result.matmul_flops / 1e9,
      result.matmul_flops / result.prompt.median_s / 1e9, result.onednn_tokens_per_s, 100 * result.fraction);
}

void print(const bench::LoadResult& result) {
  std::printf(
      "load %.2f GB: read once %.2f s; ready %.2f s; first token %.2f s; peak memory %.2f GB = %.2f x file\n",
      result.file_bytes / 1e9, result.read_s, result.load_s, result.first_token_s,
      result.peak_memory_bytes / 1e9, result.peak_memory_bytes / result.file_bytes);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> args(argv + 1, argv + argc);
  const auto next = [&](const char* otherwise) {
    if (args.empty()) return std::string(otherwise);
    std::string value = args.front();
    args.erase(args.begin());
    return value;
  };
  const auto backend = ops::make_cpu_backend();
  std::string name = next(NEMOFORGE_SOURCE_DIR "/models/demo");
  const bool is_nano = name == "nano";
  if (is_nano) name = next("MEM*E");
  const DType dtype = next("fp32") == "bf16" ? DType::kBF16 : DType::kF32;
  const std::string what = next("decode");
  if (what == "load") {
    const std::string folder = next("");
    const model::ModelConfig config = bench::nemotron_nano_config(name);
    if (const auto written = bench::write_random_checkpoint(folder, config, DType::kBF16, 1); !written) {
      std::fprintf(stderr, "%s\n", written.error().to_string().c_str());
      return 1;
    }
    print(value_or_exit(bench::run_load(folder, config, dtype, *backend)));
    return 0;
  }
  const auto random_model = [&] {
    const model::ModelConfig config = bench::nemotron_nano_config(name);
    return model::Model(config, value_or_exit(model::Weights::random(config, dtype, 1, *backend)), dtype,
                        *backend);
  };
  model::Model model = is_nano ? random_model() : value_or_exit(model::Model::load(name, dtype, *backend));
  const int64_t size = std::atol(next(what == "prefill" ? "512" : "1").c_str());
  if (what == "prefill") {
    print(name, value_or_exit(bench::run_prefill(model, {.prompt_len = size, .chunk_size = size})), size);
  } else {
    print(name, value_or_exit(bench::run_decode(model, {.batch_size = size})), size);
  }
  return 0;
}
