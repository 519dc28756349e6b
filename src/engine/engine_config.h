// How large the engine's caches are.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "engine/scheduler.h"
#include "ops/backend.h"

namespace nemoforge::engine {

// What the user says; absent values follow from the model and the memory.
struct EngineConfig {
  int64_t max_num_seqs = 16;              // sequences that run at the same time
  int64_t max_num_batched_tokens = 2048;  // of a step; raised to max_num_seqs + the model's chunk_size
  std::optional<int64_t> max_model_len;   // prompt and completion; absent: the model's, or what fits
  int64_t block_size = 32;                // tokens
  std::optional<int64_t> num_blocks;      // absent: what max_num_seqs of max_model_len need, or what fits
  int64_t num_snapshot_slots = 16;        // Mamba states kept beyond those of running sequences
  bool enable_prefix_caching = true;
  std::optional<int64_t> cache_bytes;   // for all caches; absent: half of the host's free memory, or what
                                        // gpu_memory_utilization leaves on a device
  double gpu_memory_utilization = 0.9;  // share of a device's memory that the process may fill; (0, 1]
};

// The memory that the caches take, by unit.
struct CacheCost {
  int64_t block_bytes = 0;  // keys and values of a block, all attention layers
  int64_t slot_bytes = 0;   // Mamba and convolution states of a sequence, all layers
};

// The limits of the scheduler. kResourceExhausted where not even one sequence of max_model_len fits
// (or, with max_model_len absent, one of a step's tokens), kInvalidArgument for a limit out of range; with
// the figures and the flag to change.
[[nodiscard]] Result<SchedulerConfig> plan_caches(const EngineConfig& config, const CacheCost& cost,
                                                  int64_t model_max_len, int64_t chunk_size,
                                                  int64_t free_bytes);

// Bytes for caches on a device: its total times the utilization, less what is in use and kActivationBytes.
// kInvalidArgument for a utilization outside (0, 1], kResourceExhausted where nothing is left.
[[nodiscard]] Result<int64_t> device_cache_bytes(const EngineConfig& config, const ops::DeviceMemory& memory);

// What a device keeps free for activations and logits of a step, and the libraries' own.
constexpr int64_t kActivationBytes = int64_t{1} << 30;

// Memory that the system could give without swapping (MemAvailable), or the process's cgroup limit where that
// is less.
[[nodiscard]] int64_t free_host_bytes();

}  // namespace nemoforge::engine
