#include "engine/engine_config.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include <fmt/format.h>

#include "base/integers.h"
#include "base/log.h"

namespace nemoforge::engine {
namespace {

double gib(int64_t bytes) {
  return static_cast<double>(bytes) / static_cast<double>(int64_t{1} << 30);
}

Status require_positive(const char* name, int64_t value) {
  if (value >= 1) return {};
  return error(ErrorCode::kInvalidArgument, fmt::format("{} must be at least 1, got {}.", name, value));
}

std::optional<int64_t> read_number(const char* path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

}  // namespace

Result<SchedulerConfig> plan_caches(const EngineConfig& config, const CacheCost& cost, int64_t model_max_len,
                                    int64_t chunk_size, int64_t free_bytes) {
  NF_RETURN_IF_ERROR(require_positive("max_num_seqs", config.max_num_seqs));
  NF_RETURN_IF_ERROR(require_positive("max_num_batched_tokens", config.max_num_batched_tokens));
  NF_RETURN_IF_ERROR(require_positive("block_size", config.block_size));
  if (config.max_model_len) NF_RETURN_IF_ERROR(require_positive("max_model_len", *config.max_model_len));
  if (config.num_blocks) NF_RETURN_IF_ERROR(require_positive("num_blocks", *config.num_blocks));
  if (config.num_snapshot_slots < 0) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("num_snapshot_slots must be at least 0, got {}.", config.num_snapshot_slots));
  }

  SchedulerConfig plan;
  plan.max_num_seqs = config.max_num_seqs;
  plan.max_num_batched_tokens = std::max(config.max_num_batched_tokens, config.max_num_seqs + chunk_size);
  plan.block_size = config.block_size;
  plan.chunk_size = chunk_size;
  plan.num_snapshot_slots = config.num_snapshot_slots;
  plan.enable_prefix_caching = config.enable_prefix_caching;
  plan.max_model_len = config.max_model_len.value_or(model_max_len);

  const int64_t cache_bytes = config.cache_bytes.value_or(free_bytes / 2);
  const int64_t num_slots = config.max_num_seqs + config.num_snapshot_slots;
  const int64_t block_bytes_left = cache_bytes - num_slots * cost.slot_bytes;
  const int64_t most_blocks =
      block_bytes_left < 0 ? 0 : block_bytes_left / std::max<int64_t>(cost.block_bytes, 1);
  const int64_t blocks_of_sequence = ceil_div(plan.max_model_len, plan.block_size);
  plan.num_blocks =
      config.num_blocks.value_or(std::min(most_blocks, config.max_num_seqs * blocks_of_sequence));
  if (!config.max_model_len && plan.num_blocks < blocks_of_sequence && plan.num_blocks > 0) {
    plan.max_model_len = plan.num_blocks * plan.block_size;
    spdlog::warn("max_model_len is {} rather than the model's {}: the caches have {:.2f} GiB",
                 plan.max_model_len, model_max_len, gib(cache_bytes));
  }
  if (plan.num_blocks < ceil_div(plan.max_model_len, plan.block_size)) {
    return error(
        ErrorCode::kResourceExhausted,
        fmt::format("one sequence of {} tokens needs {:.2f} GiB of keys and values besides {:.2f} GiB of "
                    "states for {} sequences; the caches have {:.2f} GiB",
                    plan.max_model_len, gib(blocks_of_sequence * cost.block_bytes),
                    gib(num_slots * cost.slot_bytes), num_slots, gib(cache_bytes)),
        "lower max_model_len or max_num_seqs");
  }
  return plan;
}

Result<int64_t> device_cache_bytes(const EngineConfig& config, const ops::DeviceMemory& memory) {
  const double share = config.gpu_memory_utilization;
  if (!(share > 0 && share <= 1)) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("gpu_memory_utilization must be above 0 and at most 1, got {}.", share));
  }
  const int64_t used = memory.total_bytes - memory.free_bytes;
  const auto allowed = static_cast<int64_t>(share * static_cast<double>(memory.total_bytes));
  const int64_t left = allowed - used - kActivationBytes;
  if (left > 0) return left;
  return error(
      ErrorCode::kResourceExhausted,
      fmt::format("no GPU memory is left for caches: {:.2f} GiB of {:.2f} GiB are in use, {:.2f} GiB are "
                  "kept for activations, and the process may fill {:.0f}%",
                  gib(used), gib(memory.total_bytes), gib(kActivationBytes), 100 * share),
      "raise --gpu-memory-utilization, or free the GPU");
}

int64_t free_host_bytes() {
  int64_t available = std::numeric_limits<int64_t>::max();
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  std::string rest;
  for (int64_t kib = 0; meminfo >> key >> kib && std::getline(meminfo, rest);) {
    if (key == "MemAvailable:") available = kib * 1024;
  }
  const auto limit = read_number("/sys/fs/cgroup/memory.max");
  const auto used = read_number("/sys/fs/cgroup/memory.current");
  if (limit && used) available = std::min(available, std::max<int64_t>(0, *limit - *used));
  return available;
}

}  // namespace nemoforge::engine
