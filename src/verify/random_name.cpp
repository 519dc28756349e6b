#include "verify/random_name.h"

#include <cstdint>
#include <string_view>

#include "base/rng.h"

namespace nemoforge::verify {

std::string random_name() {
  constexpr std::string_view kDigits = "0123456789abcdef";
  uint64_t bits = secret_seed();
  std::string name;
  for (int i = 0; i < 16; ++i, bits >>= 4) name += kDigits[bits & 15];
  return name;
}

}  // namespace nemoforge::verify
