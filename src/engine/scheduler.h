// Which sequences take part in the next step, with how many tokens, in which cache memory. Bookkeeping only:
// what must be copied in the caches is listed in SchedulerState::copies, in order, for the engine to do.
//
// A step is admit, budget, allocate (which may preempt), the model's forward pass, advance, and emit
// (emit.h).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "cache/block_allocator.h"
#include "cache/slot_allocator.h"
#include "engine/prefix_cache.h"
#include "engine/sequence.h"

namespace nemoforge::engine {

struct SchedulerConfig {
  int64_t max_num_seqs = 0;
  int64_t max_num_batched_tokens = 0;  // at least max_num_seqs + chunk_size
  int64_t max_model_len = 0;
  int64_t block_size = 0;
  int64_t chunk_size = 0;          // prefill chunks end at its multiples, or at the prompt's end
  int64_t num_blocks = 0;          // at least those of max_model_len
  int64_t num_snapshot_slots = 0;  // state slots beyond max_num_seqs, for branch points and the prefix cache
  bool enable_prefix_caching = false;
};

// A copy within the caches, of a block of keys and values or of a Mamba and convolution state.
struct CacheCopy {
  enum class What { kBlock, kState } what;
  int32_t from;
  int32_t to;
  friend bool operator==(const CacheCopy&, const CacheCopy&) = default;
};

// A sequence's share of a step: its tokens [num_computed, num_computed + num_tokens).
struct ScheduledSequence {
  Sequence* sequence = nullptr;
  int64_t num_tokens = 0;
  bool is_decode = false;
  [[nodiscard]] int64_t end() const { return sequence->num_computed + num_tokens; }
  // Whether the last of them is the last known token, so that its logits choose the next.
  [[nodiscard]] bool chooses_token() const { return end() == sequence->num_tokens(); }
  // Whether its logits are wanted: to choose a token, or for a branch point. (The two differ where a
  // preempted sequence computes its prompt again.)
  [[nodiscard]] bool needs_logits() const {
    return chooses_token() || (!is_decode && end() == sequence->prompt_len);
  }
  // Whether the logits of all of them are wanted, to score the prompt.
  [[nodiscard]] bool scores_prompt() const {
    return !is_decode && sequence->request->request.prompt_top_logprobs.has_value();
  }
};

struct SchedulerState {
  explicit SchedulerState(const SchedulerConfig& config);
  SchedulerState(const SchedulerState&) = delete;  // the prefix cache points at the allocators
  SchedulerState& operator=(const SchedulerState&) = delete;

  SchedulerConfig config;
  cache::BlockAllocator blocks;
  cache::SlotAllocator slots;
  std::optional<PrefixCache> prefix_cache;
  int64_t num_branch_slots = 0;                    // slots held by branch points
  std::deque<std::shared_ptr<Sequence>> waiting;   // in the order of service
  std::vector<std::shared_ptr<Sequence>> running;  // in the order of service
  std::vector<CacheCopy> copies;
  int64_t num_preemptions = 0;
  int64_t prefix_cache_queries = 0;  // prompt tokens that were looked for
  int64_t prefix_cache_hits = 0;     // and found
};

// Puts a sequence into the queue.
void enqueue(SchedulerState& state, std::shared_ptr<Sequence> sequence);

// Moves sequences from the queue to the running ones, in order, while there are slots, and blocks for all
// their known tokens and for one block more of each running sequence. A sample whose request's prompt is
// being prefilled waits for that, without holding others up.
void admit(SchedulerState& state);

// Divides the step's tokens: first one for every sequence past its prompt, then chunks of prompts in order.
[[nodiscard]] std::vector<ScheduledSequence> budget(const SchedulerState& state);

// Gives every scheduled sequence the blocks that its tokens need, for itself alone where it will write.
// Where blocks run out, the prefix cache's idle ones go first, then branch points are given up, then running
// sequences are preempted, the last in the order of service first, and their work is taken out of `work`.
void allocate(SchedulerState& state, std::vector<ScheduledSequence>& work);

// Takes back all cache memory of a running sequence and puts it into the queue; its tokens stay.
void preempt(SchedulerState& state, Sequence& sequence);

// After the forward pass: counts the tokens as computed, keeps what the prefix cache wants of them, and the
// branch point of a request whose prompt is now complete while samples of it wait (its logits are the
// caller's to fill in).
void advance(SchedulerState& state, const std::vector<ScheduledSequence>& work);

// Ends a sequence, waiting or running, and takes back its cache memory.
void finish(SchedulerState& state, Sequence& sequence);

}  // namespace nemoforge::engine
