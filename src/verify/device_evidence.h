// What the processes of a verification on a GPU answer, as evidence.
#pragma once

#include <nlohmann/json.hpp>

#include "io/json.h"
#include "verify/evidence.h"

namespace nemoforge::verify {

// Reads the form of the delivered outputs from the candidate's answer, and where that is as the reference
// says
// (`expected`: {dtype, shape, ...} of each output), what the reference's process found comparing them.
void judge_device_outputs(const io::Json& reply, const io::Json& expected, const io::Json& comparison,
                          Call& call);

// Whether the form alone is as expected, so that there is something to compare; else the call has its defect.
[[nodiscard]] bool check_form(const io::Json& reply, const io::Json& expected, Call& call);

}  // namespace nemoforge::verify
