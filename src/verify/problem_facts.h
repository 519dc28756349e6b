// What the reference's process says of a problem when it has loaded it, as both judges use it.
#pragma once

#include <optional>
#include <string>

#include "io/json.h"
#include "verify/evidence.h"

namespace nemoforge::verify {

// The part of a verdict's record that describes the problem.
[[nodiscard]] io::Json problem_record(const io::Json& facts);

// What the reference computes with, and whether it draws random numbers, writes into its inputs or merely
// returns them.
void note_reference(const io::Json& facts, Evidence& evidence);

// Why no candidate can be judged on a problem: a verdict's name and detail.
struct Unjudgeable {
  std::string name;
  std::string detail;
};
// Nothing where one can.
[[nodiscard]] std::optional<Unjudgeable> find_unjudgeable(const io::Json& facts);

}  // namespace nemoforge::verify
