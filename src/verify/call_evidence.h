// What one call of a candidate shows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <nlohmann/json.hpp>

#include "io/json.h"
#include "verify/comparator.h"
#include "verify/evidence.h"
#include "verify/trial_plan.h"

namespace nemoforge::verify {

// The facts that the candidate's process reports of a call.
[[nodiscard]] Call read_call(const Trial& trial, const io::Json& reply);

// Bytes of an output that is as it should be.
[[nodiscard]] int64_t output_bytes(const ExpectedOutput& expected);

// Compares the outputs of a call, whose bytes follow each other in `delivered`, and notes defects and errors
// in `call`. Where each output stands follows from what is expected, whatever the process says.
void judge_outputs(const io::Json& reply, const std::vector<ExpectedOutput>& expected,
                   std::span<const std::byte> delivered, Call& call);

}  // namespace nemoforge::verify
