#include "bench/prefill.h"

#include <vector>

#include "bench/machine.h"
#include "bench/model_work.h"
#include "bench/sequences.h"

namespace nemoforge::bench {

Result<PrefillResult> run_prefill(model::Model& model, const PrefillOptions& options) {
  if (options.chunk_size <= 0 || options.prompt_len <= 0 || options.prompt_len % options.chunk_size != 0) {
    return error(ErrorCode::kInvalidArgument, "a prompt of " + std::to_string(options.prompt_len) +
                                                  " tokens is not made of whole chunks of " +
                                                  std::to_string(options.chunk_size));
  }
  const model::ModelConfig& config = model.config();
  NF_TRY(const Sequences sequences, Sequences::make(model, 1, options.prompt_len));
  Rng rng(options.seed);
  std::vector<double> seconds;
  for (int64_t repetition = -1; repetition < options.repetitions; ++repetition) {  // the first one warms up
    const auto ids = random_token_ids(rng, options.prompt_len, config.vocab_size);
    const Stopwatch watch;
    sequences.prefill(model, 0, 0, ids, options.chunk_size);
    if (repetition >= 0) seconds.push_back(watch.seconds());
  }
  const auto num_chunks = static_cast<double>(div_exact(options.prompt_len, options.chunk_size));
  const std::vector<MatrixProduct> products = prefill_products(config, options.chunk_size);
  PrefillResult result;
  result.prompt = summarise(std::move(seconds));
  result.tokens_per_s = static_cast<double>(options.prompt_len) / result.prompt.median_s;
  for (const MatrixProduct& product : products) result.matmul_flops += num_chunks * product.flops();
  NF_TRY(const double seconds_each, matmul_seconds(products, model.dtype(), model.backend()));
  result.matmul_tokens_per_s = static_cast<double>(options.chunk_size) / seconds_each;
  result.fraction = result.tokens_per_s / result.matmul_tokens_per_s;
  return result;
}

}  // namespace nemoforge::bench
