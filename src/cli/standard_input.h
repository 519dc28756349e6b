// Standard input of the commands that are filters.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace nemoforge::cli {

// All of standard input; kInvalidData where it is larger than 1 GiB.
[[nodiscard]] Result<std::string> read_standard_input();

// Calls `convert` for each line of standard input that is not blank and writes its result and a line break at
// once, so that the filter can be driven line by line through pipes. Errors name the line.
[[nodiscard]] Status convert_lines(const std::function<Result<std::string>(std::string_view line)>& convert);

// Writes and flushes; kIo where standard output is closed or full.
[[nodiscard]] Status write_standard_output(std::string_view text);

}  // namespace nemoforge::cli
