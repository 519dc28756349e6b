// Which of a candidate's parameters holds which of the reference's.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "io/json.h"

namespace nemoforge::verify {

struct StateMatch {
  io::Json tensors = io::Json::array();  // the reference's tensors under the candidate's names
  std::string blob;                      // their bytes
  bool seed_only = false;                // some parameter that matters has no counterpart
  std::string missing_parameter;         // one of those that starts constant and for which there is no room
};

// Pairs the reference's state with the candidate's: by name where the sizes agree, else by equal content
// (both were made under one seed), the last part of the name deciding between equals. `reference` and
// `candidate` are the workers' lists of tensors, blob the bytes of the reference's (empty where they lie in
// memory that both map), `parameters` what the problem's gate found out about each.
[[nodiscard]] StateMatch match_state(const io::Json& reference, std::string_view blob,
                                     const io::Json& candidate, const io::Json& parameters);

}  // namespace nemoforge::verify
