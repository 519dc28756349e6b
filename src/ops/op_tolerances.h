// How far a backend's result may be from the double-precision one, by element type of the output and class of
// op. Tests draw inputs for which outputs are of order 1, so that the absolute part is on the scale of the
// data. Widening a number needs the measured error in the commit.
#pragma once

#include "base/check.h"
#include "tensor/dtype.h"

namespace nemoforge::ops {

// |actual - expected| <= absolute + relative * |expected|.
struct Tolerance {
  double absolute = 0;
  double relative = 0;
};

enum class OpClass {
  kCopy,         // moves or converts data: the only difference is the rounding to the output
  kElementwise,  // a few fp32 operations and perhaps an exp an element
  kSum,          // fp32 sums of up to some ten thousand products
  kScan,         // fp32 recurrences and softmaxes: sums whose terms went through exp
};

[[nodiscard]] inline Tolerance tolerance_of(DType output, OpClass op_class) {
  // One rounding to nearest of the output: half a unit in the last place.
  const double rounding = output == DType::kBF16 ? 0x1p-8 : 0x1p-24;
  switch (op_class) {
    case OpClass::kCopy:
      return {0, rounding};
    case OpClass::kElementwise:
      return {1e-6, rounding + 4e-6};  // vectorised exp is good to 2e-6 relative
    case OpClass::kSum:
      // sqrt(10304) * 2^-24 * |terms| is 6e-6 for unit outputs; any order of summation is allowed.
      return {2e-5, rounding + 1e-5};
    case OpClass::kScan:
      return {5e-5, rounding + 5e-5};
  }
  NF_CHECK(false) << static_cast<int>(op_class);
  return {};
}

}  // namespace nemoforge::ops
