// Compares a candidate's output with the oracle's, element by element in float64.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace nemoforge::verify {

// The right answer for one output, in logical (row-major) order.
struct ExpectedOutput {
  std::string dtype;  // PyTorch's name: "float32", "int64", ...
  std::vector<int64_t> shape;
  bool floating = true;
  double tolerance = 0;        // of the criterion below; only for floating outputs
  std::vector<double> oracle;  // floating: computed in float64
  std::vector<double> eager;   // floating: what the reference itself gave
  std::vector<int64_t> exact;  // not floating: the values
  std::vector<int64_t> exact_eager;
};

struct Comparison {
  int64_t num_elements = 0;
  int64_t num_bad = 0;
  double tolerance = 0;
  int64_t worst_idx = -1;
  double worst_value = 0;
  double worst_expected = 0;
  double worst_ratio = 0;       // |y - r| over its bound; infinity where y is NaN and r is not
  double rms_error = 0;         // relative to the oracle's rms
  bool kernelbench_1e4 = true;  // allclose to the reference at 1e-4, 1e-2, as KernelBench asks
  bool kernelbench_1e2 = true;
};

// Bytes of one element of a PyTorch dtype name, 0 for an unknown name.
[[nodiscard]] int64_t element_bytes(std::string_view dtype);

// `bytes` holds the output in dtype expected.dtype, row-major without gaps. An element is right where
//   |y - r| <= tolerance * (rms(r) + |r|),
// rms over the finite r with a floor of 1e-7; NaN equals only NaN, an infinity only itself. Outputs of other
// than floating type must be equal. kInvalidData where the number of bytes does not fit the shape.
[[nodiscard]] Result<Comparison> compare_output(const ExpectedOutput& expected,
                                                std::span<const std::byte> bytes);

// Two deliveries of one output: equal bytes, or else the comparison of the second with the first as oracle.
[[nodiscard]] bool same_bytes(std::span<const std::byte> first, std::span<const std::byte> second);

}  // namespace nemoforge::verify
