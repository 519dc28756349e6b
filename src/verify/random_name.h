#pragma once

#include <string>

namespace nemoforge::verify {

// Sixteen digits that nobody can foresee.
[[nodiscard]] std::string random_name();

}  // namespace nemoforge::verify
