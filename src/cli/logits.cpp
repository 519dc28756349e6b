// nemoforge logits: the logits of given token sequences, for comparison with other implementations.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/integers.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/loaded_model.h"
#include "io/safetensors.h"

namespace nemoforge::cli {
namespace {

// Rows of one forward pass: bounds the logits in memory (512 rows of 131,072 are 256 MiB).
constexpr int64_t kRowsPerPass = 512;

struct LogitsConfig {
  ModelFlags model;
  std::string tokens;
  std::string out;
};

struct TokenSequence {
  std::string name;
  std::vector<int32_t> token_ids;
};

template <typename T>
Result<std::vector<int32_t>> validated_ids(ConstTensorView tensor, int64_t vocab_size) {
  std::vector<int32_t> token_ids;
  token_ids.reserve(static_cast<size_t>(tensor.numel()));
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    const T id = tensor.data<T>()[i];
    if (id < 0 || id >= vocab_size) {
      return error(ErrorCode::kInvalidData, "token " + std::to_string(id) + " at " + std::to_string(i) +
                                                " is outside the vocabulary of " +
                                                std::to_string(vocab_size));
    }
    token_ids.push_back(static_cast<int32_t>(id));
  }
  return token_ids;
}

// Every 1-D tensor of int32 or int64.
Result<std::vector<TokenSequence>> read_sequences(const std::string& path, int64_t vocab_size) {
  NF_TRY(const io::SafetensorsFile file, io::SafetensorsFile::open(path));
  std::vector<TokenSequence> sequences;
  for (const auto& [name, tensor] : file.tensors()) {
    const bool wide = tensor.dtype() == DType::kI64;
    if (tensor.shape().rank() != 1 || tensor.numel() == 0 || (!wide && tensor.dtype() != DType::kI32))
      continue;
    auto token_ids =
        wide ? validated_ids<int64_t>(tensor, vocab_size) : validated_ids<int32_t>(tensor, vocab_size);
    if (!token_ids)
      return error(token_ids.error().code, path + ": tensor '" + name + "': " + token_ids.error().message);
    sequences.push_back({name, std::move(*token_ids)});
  }
  if (sequences.empty()) {
    return error(ErrorCode::kInvalidData, path + ": has no 1-D tensor of token ids (I32 or I64)");
  }
  return sequences;
}

// Prefills one sequence in passes and appends its logits to the file.
Status write_logits(LoadedModel& loaded, const model::ModelCaches& caches,
                    const std::vector<int32_t>& kv_blocks, const TokenSequence& sequence,
                    io::SafetensorsWriter& writer, Progress& progress) {
  const auto num_tokens = static_cast<int64_t>(sequence.token_ids.size());
  model::Batch batch;
  std::vector<std::byte> host;
  for (int64_t begin = 0; begin < num_tokens; begin += kRowsPerPass) {
    if (interrupted()) return error(ErrorCode::kCancelled, "interrupted; nothing was written");
    const int64_t count = std::min(kRowsPerPass, num_tokens - begin);
    batch.clear();
    batch.add_prefill(
        std::span(sequence.token_ids).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)),
        {.context_len = begin, .state_slot = 0, .kv_blocks = kv_blocks, .adapter = loaded.adapter.get()},
        model::WantedLogits::kAll);
    const TensorView logits = loaded.model->forward(batch, caches);
    host.resize(static_cast<size_t>(logits.numel() * dtype_bytes(logits.dtype())));
    loaded.backend->synchronize();
    loaded.backend->download(logits.raw(), host.data(), static_cast<int64_t>(host.size()));
    NF_RETURN_IF_ERROR(writer.write(host));
    progress.add_work(count);
  }
  return {};
}

Status run_logits(const LogitsConfig& config) {
  install_interrupt_handler();
  NF_TRY(LoadedModel loaded, load_model(config.model));
  const int64_t vocab_size = loaded.model->config().vocab_size;
  NF_TRY(const std::vector<TokenSequence> sequences, read_sequences(config.tokens, vocab_size));

  std::vector<io::TensorSpec> specs;
  int64_t longest = 0;
  for (const TokenSequence& sequence : sequences) {
    const auto num_tokens = static_cast<int64_t>(sequence.token_ids.size());
    specs.push_back({sequence.name + ".logits", DType::kF32, Shape{num_tokens, vocab_size}});
    longest = std::max(longest, num_tokens);
  }
  model::CacheSizes sizes;
  sizes.num_blocks = ceil_div(longest, sizes.block_size);
  sizes.kv_dtype = loaded.model->dtype();
  NF_TRY(const model::ModelCaches caches, loaded.model->allocate_caches(sizes));
  std::vector<int32_t> kv_blocks(static_cast<size_t>(sizes.num_blocks));
  for (size_t i = 0; i < kv_blocks.size(); ++i) kv_blocks[i] = static_cast<int32_t>(i);

  NF_TRY(io::SafetensorsWriter writer, io::SafetensorsWriter::create(config.out, specs));
  Progress progress("logits", "tokens", static_cast<int64_t>(sequences.size()));
  for (const TokenSequence& sequence : sequences) {
    NF_RETURN_IF_ERROR(write_logits(loaded, caches, kv_blocks, sequence, writer, progress));
    progress.finish_item();
  }
  return writer.commit();
}

}  // namespace

void add_logits_command(CLI::App& app, Outcome& outcome) {
  auto config = std::make_shared<LogitsConfig>();
  CLI::App* command = add_command(
      app, outcome, "logits", "Compute the logits of token sequences and write them to a safetensors file",
      [config] { return run_logits(*config); });
  add_model_flags(*command, config->model);
  command
      ->add_option("--tokens", config->tokens,
                   "Safetensors file to read; each 1-D tensor of integers is a sequence")
      ->required();
  command
      ->add_option("--out", config->out,
                   "Safetensors file to write: NAME.logits [n, vocab_size] in fp32 for each sequence")
      ->required();
}

}  // namespace nemoforge::cli
