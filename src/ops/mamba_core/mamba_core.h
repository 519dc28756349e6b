// What lies between the two projections of a Mamba-2 mixer: the convolution, the scan and the gated norm, in
// this order. One op, so that a backend can keep a decode step's intermediates off its memory.
#pragma once

#include "ops/causal_conv1d/causal_conv1d.h"
#include "ops/gated_rms_norm/gated_rms_norm.h"
#include "ops/ssd_scan/ssd_scan.h"

namespace nemoforge::ops {

// The three ops' own contracts hold, and what they round is rounded here. conv.out and scan.y are memory for
// what passes between them; its contents afterwards are unspecified.
struct MambaCoreArgs {
  CausalConv1dArgs conv;  // out: x | B | C, as scan reads them
  SsdScanArgs scan;       // x, b and c are columns of conv.out
  GatedRmsNormArgs norm;  // y is scan.y
};

// Throws InternalError unless the ops read each other's results as above, over the same rows.
void check(const MambaCoreArgs& args);

}  // namespace nemoforge::ops
