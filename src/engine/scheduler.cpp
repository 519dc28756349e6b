#include "engine/scheduler.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/integers.h"

namespace nemoforge::engine {
namespace {

// From the back, so that of what the prefix cache keeps the ends of prompts are the first to go.
void release_blocks(SchedulerState& state, std::vector<int32_t>& blocks) {
  for (; !blocks.empty(); blocks.pop_back()) {
    state.blocks.release(blocks.back());
    if (state.prefix_cache) state.prefix_cache->note_release(blocks.back());
  }
}

void release_caches(SchedulerState& state, Sequence& sequence) {
  release_blocks(state, sequence.blocks);
  if (sequence.state_slot >= 0) state.slots.release(sequence.state_slot);
  sequence.state_slot = -1;
  sequence.num_computed = 0;
  sequence.snapshot_positions.clear();
  sequence.first_logits.reset();
}

void drop_branch(SchedulerState& state, RequestState& request) {
  if (!request.branch) return;
  release_blocks(state, request.branch->blocks);
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

// Makes room for `num_new` blocks, and for as many again as running sequences may need for their next token;
// from the prefix cache where need be. False where there is not enough.
bool make_room(SchedulerState& state, int64_t num_new) {
  const int64_t num_wanted = num_new + static_cast<int64_t>(state.running.size());
  if (state.blocks.num_free() + (state.prefix_cache ? state.prefix_cache->num_idle_blocks() : 0) <
      num_wanted) {
    return false;
  }
  while (state.blocks.num_free() < num_wanted && state.prefix_cache->evict_block()) {
  }
  return state.blocks.num_free() >= num_wanted;
}

int32_t take_slot(SchedulerState& state) {
  const auto slot = state.slots.allocate();
  NF_CHECK(slot) << "fewer slots than running sequences";
  return *slot;
}

// Gives a waiting sequence what it needs to go on from its request's branch point.
bool start_at_branch(SchedulerState& state, Sequence& sequence, int64_t num_blocks) {
  const BranchPoint& branch = *sequence.request->branch;
  NF_CHECK(branch.logits);
  const int64_t num_new = num_blocks - static_cast<int64_t>(branch.blocks.size());
  // A partly filled block of the branch point will be copied.
  const int64_t num_copied = sequence.prompt_len % state.config.block_size == 0 ? 0 : 1;
  if (!make_room(state, num_new + num_copied)) return false;
  sequence.blocks = branch.blocks;
  for (const int32_t block : sequence.blocks) state.blocks.share(block);
  NF_CHECK(state.blocks.allocate(num_new, sequence.blocks));
  sequence.state_slot = take_slot(state);
  state.copies.push_back({CacheCopy::What::kState, branch.state_slot, sequence.state_slot});
  sequence.num_computed = sequence.prompt_len;
  if (sequence.completion_len() == 0) sequence.first_logits = branch.logits;
  return true;
}

// The same for one that goes on from the prefix cache, or begins.
bool start_at_prefix(SchedulerState& state, Sequence& sequence, int64_t num_blocks) {
  PrefixCache::Match match;
  const bool scores_prompt = sequence.request->request.prompt_top_logprobs.has_value();
  if (state.prefix_cache && !scores_prompt) {
    match = state.prefix_cache->match(sequence.prompt(), sequence.request->request.adapter);
  }
  const int64_t num_new = num_blocks - static_cast<int64_t>(match.blocks.size());
  if (!make_room(state, num_new)) {
    release_blocks(state, match.blocks);
    return false;
  }
  sequence.blocks = std::move(match.blocks);
  NF_CHECK(state.blocks.allocate(num_new, sequence.blocks));
  sequence.state_slot = take_slot(state);
  sequence.snapshot_positions = std::move(match.wanted_snapshots);
  sequence.num_computed = match.num_tokens;
  if (match.num_tokens > 0) {
    state.copies.push_back({CacheCopy::What::kState, match.snapshot_slot, sequence.state_slot});
  }
  if (state.prefix_cache && !sequence.has_begun) {
    state.prefix_cache_queries += sequence.prompt_len;
    state.prefix_cache_hits += match.num_tokens;
    sequence.cached_tokens = static_cast<int32_t>(match.num_tokens);
  }
  sequence.request->leader = &sequence;
  return true;
}

// Gives a waiting sequence a slot, and blocks for all its known tokens. False where there is not enough.
bool start(SchedulerState& state, Sequence& sequence) {
  const int64_t num_blocks = cache::blocks_for_tokens(sequence.num_tokens(), state.config.block_size);
  return sequence.request->branch ? start_at_branch(state, sequence, num_blocks)
                                  : start_at_prefix(state, sequence, num_blocks);
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
  // A row of logits for every token: 64 MiB for 128 tokens of Nemotron-3-Nano's vocabulary.
  if (sequence.request->request.prompt_top_logprobs) limit = std::min(limit, chunk_size);
  int64_t end = std::min(sequence.prompt_len, begin + limit);
  const auto& stops = sequence.snapshot_positions;
  const auto stop = std::upper_bound(stops.begin(), stops.end(), begin);
  if (stop != stops.end()) end = std::min(end, *stop);
  if (end == sequence.prompt_len) return end - begin;
  return std::max<int64_t>(0, end / chunk_size * chunk_size - begin);
}

// One block for `sequence`, where need be from the prefix cache, from branch points, or by preempting others
// that come after it, or itself.
// Nothing where it was itself preempted.
std::optional<int32_t> take_block(SchedulerState& state, Sequence& sequence) {
  for (;;) {
    if (const auto block = state.blocks.allocate()) return block;
    if (state.prefix_cache && state.prefix_cache->evict_block()) continue;
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
  const int64_t num_cached = state.prefix_cache ? state.prefix_cache->num_snapshots() : 0;
  if (state.num_branch_slots + num_cached == state.config.num_snapshot_slots &&
      !(state.prefix_cache && state.prefix_cache->evict_snapshot())) {
    return;
  }
  const int32_t slot = take_slot(state);
  ++state.num_branch_slots;
  const auto num_blocks = cache::blocks_for_tokens(sequence.prompt_len, state.config.block_size);
  BranchPoint branch{{sequence.blocks.begin(), sequence.blocks.begin() + num_blocks}, slot, nullptr};
  for (const int32_t block : branch.blocks) state.blocks.share(block);
  state.copies.push_back({CacheCopy::What::kState, sequence.state_slot, slot});
  sequence.request->branch = std::move(branch);
}

// Keeps the full blocks of the prompt that are computed, and the state where it is wanted.
void keep_prefix(SchedulerState& state, const Sequence& sequence) {
  const auto adapter = sequence.request->request.adapter;
  const int64_t num_full = sequence.num_computed / state.config.block_size * state.config.block_size;
  const auto tokens = sequence.prompt().first(static_cast<size_t>(num_full));
  state.prefix_cache->insert(tokens, adapter, sequence.blocks);
  const auto& wanted = sequence.snapshot_positions;
  if (!std::binary_search(wanted.begin(), wanted.end(), sequence.num_computed)) return;
  const auto slot = state.prefix_cache->add_snapshot(
      tokens, adapter, state.config.num_snapshot_slots - state.num_branch_slots);
  if (slot) state.copies.push_back({CacheCopy::What::kState, sequence.state_slot, *slot});
}

}  // namespace

SchedulerState::SchedulerState(const SchedulerConfig& scheduler_config)
    : config(scheduler_config),
      blocks(config.num_blocks),
      slots(config.max_num_seqs + config.num_snapshot_slots) {
  NF_CHECK(config.max_num_seqs > 0 && config.block_size > 0 && config.chunk_size > 0);
  NF_CHECK(config.max_num_batched_tokens >= config.max_num_seqs + config.chunk_size);
  NF_CHECK(config.num_blocks >= cache::blocks_for_tokens(config.max_model_len, config.block_size));
  if (config.enable_prefix_caching) {
    prefix_cache.emplace(config.block_size, std::lcm(config.block_size, config.chunk_size), blocks, slots);
  }
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
    if (item.is_decode) continue;
    if (state.prefix_cache) keep_prefix(state, sequence);
    if (sequence.is_prefilling()) continue;
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
