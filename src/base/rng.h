// Counter-based random numbers: a value is a pure function of (seed, stream, counter), so that draws neither
// depend on the order of calls nor on what else runs, and any failure can be replayed.
#pragma once

#include <array>
#include <cstdint>

namespace nemoforge {

// Philox4x32-10. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), section 4.3.
[[nodiscard]] std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                                 std::array<uint32_t, 2> key);

// A sequence of draws for one (seed, stream). Cheap to construct; copies continue independently.
class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  // Uniform 32 and 64 bits.
  uint32_t next_u32();
  uint64_t next_u64();
  // Uniform in [0, 1), 53 bits.
  double uniform();
  // Uniform integer in [0, bound), bound > 0, without modulo bias.
  uint64_t below(uint64_t bound);
  // Standard normal (Box-Muller).
  double normal();

 private:
  uint64_t seed_;
  uint64_t stream_;
  uint64_t block_ = 0;
  int used_ = 4;
  std::array<uint32_t, 4> values_{};
};

// 64 bits from the operating system's entropy source: for seeds that an adversary must not predict.
[[nodiscard]] uint64_t secret_seed();

}  // namespace nemoforge
