// What a forge came to: pass@1 on the held-out problems before the first round and after each.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/forge_plan.h"

namespace nemoforge::cli {

// Reads the verified runs, writes report.json into settings.out and returns the table for people. All rates
// are over the problems that every measurement judged.
[[nodiscard]] Result<std::string> write_forge_report(const ForgeSettings& settings);

}  // namespace nemoforge::cli
