// The choice of tokens from logits in device memory: one block a row, a few passes over it (from the L2
// cache: 512 KiB at a vocabulary of 131,072).
//
// Where min_p, top_k or top_p leave out tokens, one pass counts how many tokens and how much mass lie above
// each of kNumLevels weights; those above the first level that is enough are collected in shared memory,
// sorted and cut. More than kMaxCandidates (a nearly flat distribution): kUndecided.
//
// Masses are integers, weights in units of 2^-44: their sums do not depend on the order, so that a draw is
// the same every time. What is lighter counts as nothing (less than 1e-13 of the most probable token).
#include <algorithm>
#include <cstring>
#include <vector>

#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/token_choice/token_choice.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kNumLevels = 8;
constexpr int kMaxCandidates = 4096;
constexpr int kPerThread = kMaxCandidates / kThreads;
constexpr double kUnit = 1.0 / (uint64_t{1} << 44);

struct DeviceRow {
  double uniform;
  float inverse_temperature, top_p, min_p;
  int top_k, num_top;
  int first_change, num_changes;  // in the list of all rows' changes
  int mask_at;                    // in the list of all rows' words; -1: none
  int changed_row;                // of the memory for changed logits; -1: nothing is changed
};

struct alignas(8) DeviceChoice {
  int32_t status, token_id;
  float logprob;
  int32_t top_ids[kMaxTopLogprobs];
  float top_logprobs[kMaxTopLogprobs];
};

struct Shared {
  uint64_t list[kMaxCandidates];  // keys, ascending in the order that is wanted
  uint64_t masses[kNumLevels + 1];
  uint64_t warp_masses[kWarps];
  double warp_sums[kWarps];
  float warp_values[kWarps];
  int warp_ids[kWarps];
  unsigned counts[kNumLevels + 1];
  unsigned num_listed;
  int found;
};

__device__ uint64_t mass_of(float weight) {
  return static_cast<uint64_t>(static_cast<double>(weight) / kUnit);
}

// The largest of `count` values, the lowest index of several, to every thread.
template <typename Value>
__device__ void block_argmax(int count, const Value& value_at, Shared& shared, float& best, int& best_id) {
  best = -INFINITY;
  best_id = 0x7fffffff;
#pragma unroll 8
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    const float value = value_at(i);
    if (value > best || best_id == 0x7fffffff) {
      best = value;
      best_id = i;
    }
  }
  const auto take = [&](float other, int other_id) {
    if (other > best || (other == best && other_id < best_id)) {
      best = other;
      best_id = other_id;
    }
  };
  for (int offset = 16; offset > 0; offset /= 2) {
    take(__shfl_xor_sync(0xffffffffu, best, offset), __shfl_xor_sync(0xffffffffu, best_id, offset));
  }
  __syncthreads();  // the previous use is over
  if (threadIdx.x % 32 == 0) {
    shared.warp_values[threadIdx.x / 32] = best;
    shared.warp_ids[threadIdx.x / 32] = best_id;
  }
  __syncthreads();  // every warp's is written
  for (int warp = 0; warp < kWarps; ++warp) take(shared.warp_values[warp], shared.warp_ids[warp]);
}

__device__ double block_sum_double(double value, Shared& shared) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  __syncthreads();  // the previous use is over
  if (threadIdx.x % 32 == 0) shared.warp_sums[threadIdx.x / 32] = value;
  __syncthreads();  // every warp's sum is written
  double sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += shared.warp_sums[warp];
  return sum;
}

// The sum of the masses of all threads before this one.
__device__ uint64_t mass_before(uint64_t mass, Shared& shared) {
  const unsigned lane = threadIdx.x % 32;
  uint64_t end = mass;
  for (unsigned offset = 1; offset < 32; offset *= 2) {
    const uint64_t before = __shfl_up_sync(0xffffffffu, end, offset);
    if (lane >= offset) end += before;
  }
  __syncthreads();  // the previous use is over
  if (lane == 31) shared.warp_masses[threadIdx.x / 32] = end;
  __syncthreads();  // every warp's mass is written
  uint64_t before = end - mass;
  for (unsigned warp = 0; warp < threadIdx.x / 32; ++warp) before += shared.warp_masses[warp];
  return before;
}

// Counts the values that reach each level, with the mass of each; the last entries are those of all that
// reach `least`.
template <typename Value, typename Level>
__device__ void count_levels(int count, const Value& value_at, const Level& level_at, float least,
                             Shared& shared) {
  unsigned counts[kNumLevels + 1] = {};
  uint64_t masses[kNumLevels + 1] = {};
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    const float value = value_at(i);
    if (!(value >= least)) continue;
    const uint64_t mass = value > 0 && value <= 1 ? mass_of(value) : 0;
    counts[kNumLevels] += 1;
    masses[kNumLevels] += mass;
#pragma unroll
    for (int level = 0; level < kNumLevels; ++level) {
      const bool reaches = value >= level_at(level);
      counts[level] += reaches ? 1 : 0;
      masses[level] += reaches ? mass : 0;
    }
  }
  __syncthreads();  // the previous use is over
  if (threadIdx.x <= kNumLevels) {
    shared.counts[threadIdx.x] = 0;
    shared.masses[threadIdx.x] = 0;
  }
  __syncthreads();  // the sums are zero
#pragma unroll
  for (int level = 0; level <= kNumLevels; ++level) {
    uint64_t mass = masses[level];
    for (int offset = 16; offset > 0; offset /= 2) mass += __shfl_xor_sync(0xffffffffu, mass, offset);
    const unsigned sum = __reduce_add_sync(0xffffffffu, counts[level]);
    if (threadIdx.x % 32 == 0 && sum > 0) {
      atomicAdd(&shared.counts[level], sum);
      atomicAdd(reinterpret_cast<unsigned long long*>(&shared.masses[level]),
                static_cast<unsigned long long>(mass));
    }
  }
  __syncthreads();  // the sums are complete
}

// An integer that is smaller where the float is larger.
__device__ uint32_t descending(float value) {
  const uint32_t bits = __float_as_uint(value);
  return (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
}
__device__ float ascending_back(uint32_t order) {
  return __uint_as_float((order & 0x80000000u) != 0 ? order : ~order & 0x7fffffffu);
}

// Bitonic sort of the first `count` keys of the list, ascending.
__device__ void sort_list(int count, Shared& shared) {
  int size = 1;
  while (size < count) size *= 2;
  for (int i = count + static_cast<int>(threadIdx.x); i < size; i += kThreads) shared.list[i] = ~uint64_t{0};
  for (int run = 2; run <= size; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      __syncthreads();  // the list is as the step before left it
      for (int i = static_cast<int>(threadIdx.x); i < size / 2; i += kThreads) {
        const int low = i / distance * distance * 2 + i % distance;
        const int high = low + distance;
        const uint64_t a = shared.list[low];
        const uint64_t b = shared.list[high];
        if ((a > b) == ((low & run) == 0)) {
          shared.list[low] = b;
          shared.list[high] = a;
        }
      }
    }
  }
  __syncthreads();  // the list is sorted
}

// Lists (order, id) of the values that reach `least` and sorts the list ascending: the largest first, of
// equals the lower id. Returns how many; the caller knows that they are at most kMaxCandidates.
template <typename Value>
__device__ int list_sorted(int count, const Value& value_at, float least, Shared& shared) {
  __syncthreads();  // the previous list has been read
  if (threadIdx.x == 0) shared.num_listed = 0;
  __syncthreads();  // the list is empty
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    const float value = value_at(i);
    if (!(value >= least)) continue;
    const unsigned place = atomicAdd(&shared.num_listed, 1u);
    if (place < kMaxCandidates) {
      shared.list[place] = static_cast<uint64_t>(descending(value)) << 32 | static_cast<uint32_t>(i);
    }
  }
  __syncthreads();  // the list is complete
  const int listed = min(static_cast<int>(shared.num_listed), kMaxCandidates);
  sort_list(listed, shared);
  return listed;
}

__device__ float listed_value(uint64_t key) {
  return ascending_back(static_cast<uint32_t>(key >> 32));
}

// The logprobs of the logits as they came; false where the most probable ones are too many to list.
__device__ bool score(const float* logits, int vocab_size, float max, int num_top, Shared& shared,
                      double& log_sum, DeviceChoice* out) {
  double sum = 0;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < vocab_size; i += kThreads) {
    sum += static_cast<double>(expf(logits[i] - max));
  }
  log_sum = static_cast<double>(max) + log(block_sum_double(sum, shared));
  if (num_top == 0) return true;
  const auto logit_at = [&](int i) { return logits[i]; };
  const auto level_at = [&](int level) { return max - 0.5f * static_cast<float>(1 << level); };
  const int wanted = min(num_top, vocab_size);
  count_levels(vocab_size, logit_at, level_at, -INFINITY, shared);
  int level = 0;
  while (level < kNumLevels && static_cast<int>(shared.counts[level]) < wanted) ++level;
  if (shared.counts[level] > kMaxCandidates) return false;
  list_sorted(vocab_size, logit_at, level < kNumLevels ? level_at(level) : -INFINITY, shared);
  if (static_cast<int>(threadIdx.x) < wanted) {
    const uint64_t key = shared.list[threadIdx.x];
    out->top_ids[threadIdx.x] = static_cast<int32_t>(key & 0xffffffffu);
    out->top_logprobs[threadIdx.x] = static_cast<float>(static_cast<double>(listed_value(key)) - log_sum);
  }
  return true;
}

// The mass at which the draw falls, in [0, total).
__device__ uint64_t target_of(double uniform, uint64_t total) {
  return min(static_cast<uint64_t>(uniform * static_cast<double>(total)), total - 1);
}

// A draw over all tokens.
template <typename Weight>
__device__ int draw_of_all(int vocab_size, const Weight& weight_at, double uniform, Shared& shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int run = (vocab_size + kWarps - 1) / kWarps;  // tokens of a warp
  uint64_t mass = 0;
#pragma unroll 4
  for (int i = warp * run + lane; i < min((warp + 1) * run, vocab_size); i += 32)
    mass += mass_of(weight_at(i));
  for (int offset = 16; offset > 0; offset /= 2) mass += __shfl_xor_sync(0xffffffffu, mass, offset);
  __syncthreads();  // the previous use is over
  if (lane == 0) shared.warp_masses[warp] = mass;
  __syncthreads();  // every warp's mass is written
  uint64_t total = 0;
  for (int other = 0; other < kWarps; ++other) total += shared.warp_masses[other];
  const uint64_t target = target_of(uniform, total);
  uint64_t before = 0;
  int of_warp = 0;
  while (of_warp + 1 < kWarps && before + shared.warp_masses[of_warp] <= target) {
    before += shared.warp_masses[of_warp++];
  }
  // All threads divide the run of that warp among themselves.
  const int each = (run + kThreads - 1) / kThreads;
  const int first = of_warp * run + static_cast<int>(threadIdx.x) * each;
  const int end = min(min(first + each, (of_warp + 1) * run), vocab_size);
  mass = 0;
  for (int i = first; i < end; ++i) mass += mass_of(weight_at(i));
  uint64_t cumulative = before + mass_before(mass, shared);
  if (cumulative <= target && target < cumulative + mass) {
    for (int i = first; i < end; ++i) {
      cumulative += mass_of(weight_at(i));
      if (cumulative > target) {
        shared.found = i;
        break;
      }
    }
  }
  __syncthreads();  // found is written
  return shared.found;
}

// A draw over the first `count` of the list, in the order of their ids.
__device__ int draw_of_list(int count, double uniform, Shared& shared) {
  __syncthreads();  // the list has been read
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    shared.list[i] = shared.list[i] << 32 | shared.list[i] >> 32;
  }
  __syncthreads();  // the keys are by id
  sort_list(count, shared);
  uint64_t masses[kPerThread];
  uint64_t mass = 0;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int at = static_cast<int>(threadIdx.x) * kPerThread + i;
    masses[i] = at < count ? mass_of(ascending_back(static_cast<uint32_t>(shared.list[at]))) : 0;
    mass += masses[i];
  }
  uint64_t cumulative = mass_before(mass, shared);
  uint64_t total = 0;
  for (int warp = 0; warp < kWarps; ++warp) total += shared.warp_masses[warp];
  const uint64_t target = target_of(uniform, total);
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const bool here = cumulative <= target && target < cumulative + masses[i];
    if (here) {
      shared.found = static_cast<int>(shared.list[static_cast<int>(threadIdx.x) * kPerThread + i] >> 32);
    }
    cumulative += masses[i];
  }
  __syncthreads();  // found is written
  return shared.found;
}

// Of the sorted list, how many make up the smallest set of most probable ones that reaches top_p of `total`.
__device__ int cut_mass(int count, float top_p, double total, Shared& shared) {
  uint64_t masses[kPerThread];
  uint64_t mass = 0;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int at = static_cast<int>(threadIdx.x) * kPerThread + i;
    masses[i] = at < count ? mass_of(listed_value(shared.list[at])) : 0;
    mass += masses[i];
  }
  uint64_t before = mass_before(mass, shared);
  if (total == 0) {  // of the list itself
    uint64_t sum = 0;
    for (int warp = 0; warp < kWarps; ++warp) sum += shared.warp_masses[warp];
    total = static_cast<double>(sum);
  }
  unsigned kept = 0;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int at = static_cast<int>(threadIdx.x) * kPerThread + i;
    if (at < count && (at == 0 || static_cast<double>(before) < static_cast<double>(top_p) * total)) ++kept;
    before += masses[i];
  }
  __syncthreads();  // the masses have been read
  if (threadIdx.x == 0) shared.num_listed = 0;
  __syncthreads();  // the sum is zero
  atomicAdd(&shared.num_listed, kept);
  __syncthreads();  // the sum is complete
  return static_cast<int>(shared.num_listed);
}

// The token drawn from what min_p, top_k and top_p leave; -1 where too many come into question.
template <typename Weight>
__device__ int draw_of_probable(const DeviceRow& row, int vocab_size, const Weight& weight_at,
                                Shared& shared) {
  // Weights from 1/2 to 2^-24.
  const auto level_at = [&](int level) {
    constexpr float kLevels[kNumLevels] = {0x1p-1f, 0x1p-3f,  0x1p-5f,  0x1p-7f,
                                           0x1p-9f, 0x1p-12f, 0x1p-16f, 0x1p-24f};
    return fmaxf(kLevels[level], row.min_p);
  };
  const bool limits_count = row.top_k > 0 && row.top_k < vocab_size;
  const bool limits_mass = row.top_p < 1;
  const float least = fmaxf(row.min_p, __FLT_DENORM_MIN__);
  count_levels(vocab_size, weight_at, level_at, least, shared);
  const auto total = static_cast<double>(shared.masses[kNumLevels]);
  const double wanted_mass = static_cast<double>(row.top_p) * total;
  const auto is_enough = [&](int level) {
    if (limits_count) return static_cast<int>(shared.counts[level]) >= row.top_k;
    return limits_mass && static_cast<double>(shared.masses[level]) >= wanted_mass;
  };
  int level = 0;
  while (level < kNumLevels && !is_enough(level)) ++level;
  if (shared.counts[level] > kMaxCandidates) return -1;
  int count = list_sorted(vocab_size, weight_at, level < kNumLevels ? level_at(level) : least, shared);
  if (limits_count) count = min(count, row.top_k);
  if (limits_mass) count = cut_mass(count, row.top_p, limits_count ? 0 : total, shared);
  return draw_of_list(count, row.uniform, shared);
}

// Writes the row's logits as the changes leave them to `changed`.
__device__ void change_logits(const float* logits, int vocab_size, const DeviceRow& row,
                              const LogitChange* changes, const uint32_t* mask, float* changed) {
  for (int i = static_cast<int>(threadIdx.x); i < vocab_size; i += kThreads) {
    const bool allowed = mask == nullptr || (mask[i / 32] >> (i % 32) & 1u) != 0;
    changed[i] = allowed ? logits[i] : -INFINITY;
  }
  __syncthreads();  // the logits are copied
  for (int i = static_cast<int>(threadIdx.x); i < row.num_changes; i += kThreads) {
    const LogitChange change = changes[row.first_change + i];
    float logit = changed[change.token_id] + change.bias;
    if (logit != -INFINITY) {
      logit = logit > 0 ? logit / change.repetition : logit * change.repetition;
      logit = fminf(fmaxf(logit - change.penalty, -__FLT_MAX__), __FLT_MAX__);
    }
    changed[change.token_id] = logit;
  }
  __syncthreads();  // the changes are made
}

__global__ void __launch_bounds__(kThreads)
    choose_row(const float* logits, int vocab_size, const DeviceRow* rows, const LogitChange* changes,
               const uint32_t* masks, float* changed, DeviceChoice* choices) {
  __shared__ Shared shared;
  await_previous_kernel();
  const DeviceRow row = rows[blockIdx.x];
  DeviceChoice* out = choices + blockIdx.x;
  const float* source = logits + static_cast<int64_t>(blockIdx.x) * vocab_size;
  const auto finish = [&](TokenChoiceStatus status, int token) {
    if (threadIdx.x != 0) return;
    out->status = static_cast<int32_t>(status);
    out->token_id = token;
  };

  bool finite = true;
  float max = 0;
  int best = 0;
  block_argmax(
      vocab_size,
      [&](int i) {
        const float logit = source[i];
        finite = finite && fabsf(logit) <= __FLT_MAX__;
        return logit;
      },
      shared, max, best);
  if (__syncthreads_or(finite ? 0 : 1) != 0) return finish(TokenChoiceStatus::kNotFinite, 0);
  double log_sum = 0;
  if (row.num_top >= 0 && !score(source, vocab_size, max, row.num_top, shared, log_sum, out)) {
    return finish(TokenChoiceStatus::kUndecided, 0);
  }
  const float* current = source;
  if (row.changed_row >= 0) {
    float* target = changed + static_cast<int64_t>(row.changed_row) * vocab_size;
    change_logits(source, vocab_size, row, changes, row.mask_at < 0 ? nullptr : masks + row.mask_at, target);
    current = target;
    block_argmax(
        vocab_size, [&](int i) { return current[i]; }, shared, max, best);
    if (max == -INFINITY) return finish(TokenChoiceStatus::kNoToken, 0);
  }
  int token = best;
  if (row.inverse_temperature > 0) {
    const auto weight_at = [&](int i) { return expf((current[i] - max) * row.inverse_temperature); };
    const bool takes_all = row.min_p == 0 && row.top_k == 0 && row.top_p >= 1;
    token = takes_all ? draw_of_all(vocab_size, weight_at, row.uniform, shared)
                      : draw_of_probable(row, vocab_size, weight_at, shared);
    if (token < 0) return finish(TokenChoiceStatus::kUndecided, 0);
  }
  finish(TokenChoiceStatus::kChosen, token);
  if (threadIdx.x == 0 && row.num_top >= 0) {
    out->logprob = static_cast<float>(static_cast<double>(source[token]) - log_sum);
  }
}

// What the kernel reads besides logits, in one piece of memory: rows, changes, words of masks.
struct Inputs {
  std::vector<DeviceRow> rows;
  std::vector<LogitChange> changes;
  std::vector<uint32_t> masks;
  int num_changed = 0;  // rows

  explicit Inputs(std::span<const TokenChoiceRow> from) {
    for (const TokenChoiceRow& row : from) {
      const bool is_changed = !row.changes.empty() || !row.token_mask.empty();
      rows.push_back({.uniform = row.uniform,
                      .inverse_temperature = row.inverse_temperature,
                      .top_p = row.top_p,
                      .min_p = row.min_p,
                      .top_k = row.top_k,
                      .num_top = row.num_top_logprobs,
                      .first_change = static_cast<int>(changes.size()),
                      .num_changes = static_cast<int>(row.changes.size()),
                      .mask_at = row.token_mask.empty() ? -1 : static_cast<int>(masks.size()),
                      .changed_row = is_changed ? num_changed++ : -1});
      changes.insert(changes.end(), row.changes.begin(), row.changes.end());
      masks.insert(masks.end(), row.token_mask.begin(), row.token_mask.end());
    }
  }

  [[nodiscard]] std::vector<std::byte> bytes() const {
    std::vector<std::byte> all(changes_at() + changes.size() * sizeof(LogitChange) + masks.size() * 4);
    std::memcpy(all.data(), rows.data(), rows.size() * sizeof(DeviceRow));
    std::memcpy(all.data() + changes_at(), changes.data(), changes.size() * sizeof(LogitChange));
    std::memcpy(all.data() + masks_at(), masks.data(), masks.size() * 4);
    return all;
  }
  [[nodiscard]] size_t changes_at() const { return rows.size() * sizeof(DeviceRow); }
  [[nodiscard]] size_t masks_at() const { return changes_at() + changes.size() * sizeof(LogitChange); }
};

ChosenToken from_device(const DeviceChoice& choice, const TokenChoiceRow& row, int64_t vocab_size) {
  ChosenToken token{static_cast<TokenChoiceStatus>(choice.status), choice.token_id, 0, {}};
  if (token.status != TokenChoiceStatus::kChosen || row.num_top_logprobs < 0) return token;
  token.logprob = choice.logprob;
  for (int64_t i = 0; i < std::min<int64_t>(row.num_top_logprobs, vocab_size); ++i) {
    token.top_logprobs.emplace_back(choice.top_ids[i], choice.top_logprobs[i]);
  }
  return token;
}

}  // namespace

void CudaBackend::choose_tokens(const TokenChoiceArgs& args) {
  check(args);
  const int64_t num_rows = args.logits.size(0);
  const int64_t vocab_size = args.logits.size(1);
  if (num_rows == 0) return;
  NF_CHECK(vocab_size > 0);
  const Inputs inputs(args.rows);
  const std::vector<std::byte> bytes = inputs.bytes();
  const auto num_bytes = static_cast<int64_t>(bytes.size());
  const int64_t choice_bytes = num_rows * static_cast<int64_t>(sizeof(DeviceChoice));
  auto* choices = static_cast<std::byte*>(scratch(ScratchPurpose::kTokenChoice, choice_bytes + num_bytes));
  std::byte* rest = choices + choice_bytes;
  auto* changed =
      static_cast<float*>(scratch(ScratchPurpose::kChangedLogits, inputs.num_changed * vocab_size * 4));
  upload(bytes.data(), rest, num_bytes);
  stream_.launch(choose_row, static_cast<unsigned>(num_rows), kThreads, 0, args.logits.data<float>(),
                 static_cast<int>(vocab_size), reinterpret_cast<const DeviceRow*>(rest),
                 reinterpret_cast<const LogitChange*>(rest + inputs.changes_at()),
                 reinterpret_cast<const uint32_t*>(rest + inputs.masks_at()), changed,
                 reinterpret_cast<DeviceChoice*>(choices));
  std::vector<DeviceChoice> found(static_cast<size_t>(num_rows));
  download(choices, found.data(), choice_bytes);
  for (size_t i = 0; i < found.size(); ++i) args.out[i] = from_device(found[i], args.rows[i], vocab_size);
}

}  // namespace nemoforge::ops
