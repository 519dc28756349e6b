#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"
#include "base/integers.h"

namespace nemoforge::engine {
namespace {

void release_caches(SchedulerState& state, Sequence& sequence) {
  state.blocks.release(sequence.blocks);
  sequence.blocks.clear();
  if (sequence.state_slot >= 0) state.slots.release(sequence.state_slot);
  sequence.state_slot = -1;
  sequence.num_computed = 0;
  sequence.first_logits.reset();
}

void drop_branch(SchedulerState& state, RequestState& request) {
  if (!request.branch) return;
  state.blocks.release(request.branch->blocks);
  state.slots.release(request.branch->state_slot);
  --state.num_branch_slots;
  request.branch.reset();
}

// Gives up the branch point of the request that is last in the order of service; false where there is none.
// Its samples will prefill the prompt themselves.
bool drop_last_branch(SchedulerState& state) {
  for (auto it = state.waiting.rbegin(); it != state.waiting.rend(); ++it) {
    RequestState& request = *(*it)->request;
    if (!request.branch) continue;
    drop_branch(state, request);
    return true;
  }
  return false;
}

// The sample is no longer one that a branch point is kept for.
void leave_branch(SchedulerState& state, Sequence& sequence) {
  RequestState& request = *sequence.request;
  if (request.leader == &sequence) request.leader = nullptr;
  if (!sequence.has_begun) {
    sequence.has_begun = true;
    --request.num_unbranched;
  }
  if (request.num_unbranched == 0) drop_branch(state, request);
}

// Blocks for `num_new` more, and as many again as running sequences may need for their next token.
bool has_room(const SchedulerState& state, int64_t num_new) {
  return state.blocks.num_free() >= num_new + static_cast<int64_t>(state.running.size());
}

// Gives a waiting sequence its slot, and blocks for all its known tokens; from the branch point of its
// request where there is one. False where there is not enough.
bool start(SchedulerState& state, Sequence& sequence) {
  RequestState& request = *sequence.request;
  const int64_t block_size = state.config.block_size;
  const int64_t num_blocks = cache::blocks_for_tokens(sequence.num_tokens(), block_size);
  int64_t num_shared = 0;
  int64_t num_copied = 0;  // a partly filled block of the branch point will be copied
  if (request.branch) {
    num_shared = static_cast<int64_t>(request.branch->blocks.size());
    num_copied = sequence.prompt_len % block_size == 0 ? 0 : 1;
  }
  if (!has_room(state, num_blocks - num_shared + num_copied)) return false;

  const auto slot = state.slots.allocate();
  NF_CHECK(slot) << "fewer slots than running sequences";
  sequence.state_slot = *slot;
  if (request.branch) {
    sequence.blocks = request.branch->blocks;
    for (const int32_t block : sequence.blocks) state.blocks.share(block);
    state.copies.push_back({CacheCopy::What::kState, request.branch->state_slot, *slot});
    sequence.num_computed = sequence.prompt_len;
    if (sequence.completion_len() == 0) sequence.first_logits = request.branch->logits;
  } else {
    request.leader = &sequence;
  }
  NF_CHECK(state.blocks.allocate(num_blocks - num_shared, sequence.blocks));
  return true;
}

void erase_running(SchedulerState& state, const Sequence& sequence) {
  const auto it = std::find_if(state.running.begin(), state.running.end(),
                               [&](const auto& other) { return other.get() == &sequence; });
  NF_CHECK(it != state.running.end());
  state.running.erase(it);
}

// Tokens of the prompt in the next chunk, at most `limit`; chunks end where the bits of a later chunk do not
// depend on the cut.
int64_t prefill_chunk(const Sequence& sequence, int64_t limit, int64_t chunk_size) {
  const int64_t begin = sequence.num_computed;
  const int64_t end = std::min(sequence.prompt_len, begin + limit);
  if (end == sequence.prompt_len) return end - begin;
  return std::max<int64_t>(0, end / chunk_size * chunk_size - begin);
}

// One block for `sequence`, by giving up branch points and preempting others that come after it, or itself.
// Nothing where it was itself preempted.
std::optional<int32_t> take_block(SchedulerState& state, Sequence& sequence) {
  for (;;) {
    if (const auto block = state.blocks.allocate()) return block;
    if (drop_last_branch(state)) continue;
    NF_CHECK(!state.running.empty());
    Sequence& last = *state.running.back();
    preempt(state, last);
    if (&last == &sequence) return std::nullopt;
  }
}

// Whether all blocks that the work writes are there and the sequence's own.
bool allocate_one(SchedulerState& state, const ScheduledSequence& work) {
  Sequence& sequence = *work.sequence;
  const int64_t block_size = state.config.block_size;
  const int64_t num_blocks = cache::blocks_for_tokens(sequence.num_computed + work.num_tokens, block_size);
  while (static_cast<int64_t>(sequence.blocks.size()) < num_blocks) {
    const auto block = take_block(state, sequence);
    if (!block) return false;
    sequence.blocks.push_back(*block);
  }
  if (sequence.num_computed % block_size == 0) return true;
  // A block that is partly filled may be a branch point's too.
  const auto written = static_cast<size_t>(sequence.num_computed / block_size);
  if (state.blocks.reference_count(sequence.blocks[written]) == 1) return true;
  const auto block = take_block(state, sequence);
  if (!block) return false;
  state.copies.push_back({CacheCopy::What::kBlock, sequence.blocks[written], *block});
  state.blocks.release(sequence.blocks[written]);
  sequence.blocks[written] = *block;
  return true;
}

// Keeps what further samples of the sequence's prompt begin from.
void make_branch(SchedulerState& state, Sequence& sequence) {
  if (state.num_branch_slots == state.config.num_snapshot_slots) return;
  const auto slot = state.slots.allocate();
  NF_CHECK(slot);
  ++state.num_branch_slots;
  const auto num_blocks = cache::blocks_for_tokens(sequence.prompt_len, state.config.block_size);
  BranchPoint branch{{sequence.blocks.begin(), sequence.blocks.begin() + num_blocks}, *slot, nullptr};
  for (const int32_t block : branch.blocks) state.blocks.share(block);
  state.copies.push_back({CacheCopy::What::kState, sequence.state_slot, *slot});
  sequence.request->branch = std::move(branch);
}

}  // namespace

SchedulerState::SchedulerState(const SchedulerConfig& scheduler_config)
    : config(scheduler_config),
      blocks(config.num_blocks),
      slots(config.max_num_seqs + config.num_snapshot_slots) {
  NF_CHECK(config.max_num_seqs > 0 && config.block_size > 0 && config.chunk_size > 0);
  NF_CHECK(config.max_num_batched_tokens >= config.max_num_seqs + config.chunk_size);
  NF_CHECK(config.num_blocks >= cache::blocks_for_tokens(config.max_model_len, config.block_size));
}

void enqueue(SchedulerState& state, std::shared_ptr<Sequence> sequence) {
  sequence->status = SequenceStatus::kWaiting;
  // From the back, where all but preempted and urgent sequences belong.
  const auto at = std::find_if(state.waiting.rbegin(), state.waiting.rend(),
                               [&](const auto& other) { return !sequence->is_before(*other); });
  state.waiting.insert(at.base(), std::move(sequence));
}

void admit(SchedulerState& state) {
  for (auto it = state.waiting.begin(); it != state.waiting.end();) {
    if (std::cmp_greater_equal(state.running.size(), state.config.max_num_seqs)) return;
    const std::shared_ptr<Sequence> sequence = *it;
    if (sequence->request->leader != nullptr) {
      ++it;
      continue;
    }
    while (!start(state, *sequence)) {
      // With nothing running, only branch points can stand in the way.
      if (!state.running.empty() || !drop_last_branch(state)) return;
    }
    it = state.waiting.erase(it);
    sequence->status = SequenceStatus::kRunning;
    const auto at = std::find_if(state.running.begin(), state.running.end(),
                                 [&](const auto& other) { return sequence->is_before(*other); });
    state.running.insert(at, sequence);
    if (sequence->request->leader != sequence.get()) leave_branch(state, *sequence);
  }
}

std::vector<ScheduledSequence> budget(const SchedulerState& state) {
  std::vector<ScheduledSequence> work;
  for (const auto& sequence : state.running) {
    if (!sequence->is_prefilling() && sequence->num_computed < sequence->num_tokens()) {
      work.push_back({sequence.get(), 1, true});
    }
  }
  int64_t left = state.config.max_num_batched_tokens - static_cast<int64_t>(work.size());
  for (const auto& sequence : state.running) {
    if (!sequence->is_prefilling()) continue;
    const int64_t num_tokens = prefill_chunk(*sequence, left, state.config.chunk_size);
    if (num_tokens == 0) break;
    work.push_back({sequence.get(), num_tokens, false});
    left -= num_tokens;
  }
  return work;
}

void allocate(SchedulerState& state, std::vector<ScheduledSequence>& work) {
  for (const ScheduledSequence& item : work) {
    if (item.sequence->status == SequenceStatus::kRunning) (void)allocate_one(state, item);
  }
  std::erase_if(work, [](const auto& item) { return item.sequence->status != SequenceStatus::kRunning; });
}

void preempt(SchedulerState& state, Sequence& sequence) {
  const auto it = std::find_if(state.running.begin(), state.running.end(),
                               [&](const auto& other) { return other.get() == &sequence; });
  NF_CHECK(it != state.running.end());
  std::shared_ptr<Sequence> owned = *it;
  state.running.erase(it);
  if (sequence.request->leader == &sequence) sequence.request->leader = nullptr;
  release_caches(state, sequence);
  ++state.num_preemptions;
  enqueue(state, std::move(owned));
}

void advance(SchedulerState& state, const std::vector<ScheduledSequence>& work) {
  for (const ScheduledSequence& item : work) {
    Sequence& sequence = *item.sequence;
    sequence.num_computed += item.num_tokens;
    if (item.is_decode || sequence.is_prefilling()) continue;
    RequestState& request = *sequence.request;
    // The leader itself is still counted as one that has not branched off.
    if (request.leader == &sequence && request.num_unbranched > (sequence.has_begun ? 0 : 1)) {
      make_branch(state, sequence);
    }
    leave_branch(state, sequence);
  }
}

void finish(SchedulerState& state, Sequence& sequence) {
  NF_CHECK(sequence.status != SequenceStatus::kFinished);
  leave_branch(state, sequence);
  if (sequence.status == SequenceStatus::kRunning) {
    release_caches(state, sequence);
    sequence.status = SequenceStatus::kFinished;
    erase_running(state, sequence);
    return;
  }
  sequence.status = SequenceStatus::kFinished;
  std::erase_if(state.waiting, [&](const auto& other) { return other.get() == &sequence; });
}

}  // namespace nemoforge::engine
