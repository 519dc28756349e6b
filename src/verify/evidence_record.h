// The evidence as it stands in the record of a verification.
#pragma once

#include <nlohmann/json.hpp>

#include "io/json.h"
#include "verify/evidence.h"

namespace nemoforge::verify {

// Adds calls, kernels, errors, operators, launches and output to `record`.
void add_evidence(const Evidence& evidence, io::Json& record);

}  // namespace nemoforge::verify
