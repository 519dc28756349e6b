// What one forward pass works on: rows of several sequences, described in host memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace nemoforge::model {

class LoraAdapter;

// Where a sequence keeps its past and what it passes through.
struct SequenceState {
  int64_t context_len = 0;               // its tokens before the first row of this batch
  int32_t state_slot = 0;                // its slot in the Mamba and convolution states
  std::span<const int32_t> kv_blocks;    // its KV blocks in order, enough for the rows of this batch too
  const LoraAdapter* adapter = nullptr;  // null: the base model
};

// The rows of a prefill chunk whose logits are wanted.
enum class WantedLogits : uint8_t { kNone, kLast, kAll };

// A ragged batch under construction. Sequences that decode (one row each, through the kernels made for that)
// are added before those that prefill: RaggedRows says why. A sequence's results depend on its own rows and
// on whether it decodes or prefills, never on its neighbours or its place, so the order among equals is free.
// Cleared and filled again without allocating; the spans and pointers given to it must outlive the forward
// pass.
class Batch {
 public:
  struct Sequence {
    SequenceState state;
    int64_t first_row = 0;
    int64_t num_rows = 0;
  };

  void clear();

  // One token of a sequence; its logits are wanted.
  void add_decode(int32_t token_id, const SequenceState& state);
  // A piece of a prompt: at least one token.
  void add_prefill(std::span<const int32_t> token_ids, const SequenceState& state, WantedLogits wanted);

  [[nodiscard]] int64_t num_rows() const { return static_cast<int64_t>(token_ids_.size()); }
  [[nodiscard]] int64_t num_decode() const { return num_decode_; }
  [[nodiscard]] int64_t num_sequences() const { return static_cast<int64_t>(sequences_.size()); }
  [[nodiscard]] std::span<const int32_t> token_ids() const { return token_ids_; }
  [[nodiscard]] std::span<const Sequence> sequences() const { return sequences_; }
  // Rows whose logits are wanted, ascending: the logits of a pass stand in this order.
  [[nodiscard]] std::span<const int32_t> logit_rows() const { return logit_rows_; }
  [[nodiscard]] bool has_adapters() const { return has_adapters_; }

 private:
  void add_sequence(std::span<const int32_t> token_ids, const SequenceState& state);

  std::vector<int32_t> token_ids_;
  std::vector<Sequence> sequences_;
  std::vector<int32_t> logit_rows_;
  int64_t num_decode_ = 0;
  bool has_adapters_ = false;
};

}  // namespace nemoforge::model
