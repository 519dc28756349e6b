// What the engine's tests run: the golden checkpoint, a tokenizer for it, and requests.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "engine/generate.h"
#include "model/model.h"
#include "ops/backend.h"
#include "text/tokenizer/tokenizer.h"
#include "text/utf8.h"

namespace nemoforge::engine {

inline constexpr int32_t kFirstByteToken = 16;
inline constexpr int32_t kThinkStart = 12;
inline constexpr int32_t kThinkEnd = 13;

// The token of a byte under tiny_tokenizer().
inline int32_t byte_token(char byte) {
  return kFirstByteToken + static_cast<unsigned char>(byte);
}

// A byte-level tokenizer for the golden checkpoint's vocabulary of 320: special tokens below 16, the bytes 0
// .. 255 as 16 .. 271, and words of several bytes, "w272" .. "w319".
inline text::Tokenizer tiny_tokenizer() {
  std::string vocab;
  std::string added;
  const auto add = [](std::string& list, const std::string& entry) {
    list += (list.empty() ? "" : ",") + entry;
  };
  for (int id = 0; id < 16; ++id) {
    const char* names[] = {"<think>", "</think>", "<tool_call>", "</tool_call>"};
    const std::string name = id >= 12 ? names[id - 12] : "<special" + std::to_string(id) + ">";
    add(added, R"({"id":)" + std::to_string(id) + R"(,"content":")" + name +
                   R"(","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":)" +
                   (id < 12 ? "true}" : "false}"));
    add(vocab, "\"" + name + "\":" + std::to_string(id));
  }
  // GPT-2's alphabet: printable bytes stand for themselves, the others for code points from U+0100 in order.
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    std::string spelling = byte == '"' || byte == '\\' ? "\\" : "";
    text::append_utf8(spelling, printable ? static_cast<char32_t>(byte) : next++);
    add(vocab, "\"" + spelling + "\":" + std::to_string(kFirstByteToken + byte));
  }
  for (int id = 272; id < 320; ++id) add(vocab, "\"w" + std::to_string(id) + "\":" + std::to_string(id));
  auto tokenizer = text::Tokenizer::from_json(
      R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)" + added +
      R"(],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,)"
      R"("trim_offsets":true,"use_regex":true},"post_processor":null,"decoder":{"type":"ByteLevel",)"
      R"("add_prefix_space":true,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE",)"
      R"("dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,)"
      R"("fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{)" +
      vocab + R"(},"merges":[]}})");
  NF_CHECK(tokenizer) << tokenizer.error().message;
  return std::move(*tokenizer);
}

// tests/golden/tiny in fp32 on a backend, and engines on it, one at a time.
class TinyModel {
 public:
  explicit TinyModel(std::unique_ptr<ops::Backend> backend = ops::make_cpu_backend())
      : backend_(std::move(backend)), tokenizer_(tiny_tokenizer()) {
    auto model = model::Model::load(folder(), DType::kF32, *backend_);
    NF_CHECK(model) << model.error().message;
    model_ = std::make_unique<model::Model>(std::move(*model));
  }

  [[nodiscard]] static std::string folder() {
    return std::string(NEMOFORGE_SOURCE_DIR) + "/tests/golden/tiny";
  }

  [[nodiscard]] std::unique_ptr<Engine> engine(const EngineConfig& config) {
    auto engine = Engine::create(*model_, &tokenizer_, config);
    NF_CHECK(engine) << engine.error().message;
    return std::move(*engine);
  }

  [[nodiscard]] model::Model& model() { return *model_; }
  [[nodiscard]] ops::Backend& backend() { return *backend_; }
  [[nodiscard]] const text::Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  std::unique_ptr<ops::Backend> backend_;
  text::Tokenizer tokenizer_;
  std::unique_ptr<model::Model> model_;
};

// Small blocks and steps, so that short texts already cross their boundaries.
inline EngineConfig tiny_config() {
  EngineConfig config;
  config.max_num_seqs = 8;
  config.max_num_batched_tokens = 48;
  config.max_model_len = 256;
  config.block_size = 8;
  config.num_snapshot_slots = 2;
  config.cache_bytes = int64_t{64} << 20;
  return config;
}

inline std::vector<int32_t> random_prompt(int64_t length, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < length; ++i) prompt.push_back(static_cast<int32_t>(16 + rng.below(304)));
  return prompt;
}

inline Request random_request(int64_t prompt_len, uint64_t seed, int32_t max_tokens) {
  Request request;
  request.prompt_token_ids = random_prompt(prompt_len, seed);
  request.sampling.seed = seed;
  request.sampling.ignore_eos = true;
  request.max_tokens = max_tokens;
  return request;
}

}  // namespace nemoforge::engine
