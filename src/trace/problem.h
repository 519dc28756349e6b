// Problems in KernelBench's form: one Python file with a class Model, get_inputs and get_init_inputs.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace nemoforge::trace {

struct Problem {
  std::string id;            // unique in a set: the file's stem, in a level's folder "level1_19_ReLU"
  int64_t level = 0;         // N of a folder "levelN"; 0 elsewhere
  int64_t number = 0;        // N of a file "N_name.py"; 0 elsewhere
  std::string source;        // the text of the file
  std::string path;          // where it was read
  std::string content_hash;  // SHA-256 of source
};

// Inclusive ranges of numbers.
using NumberRanges = std::vector<std::pair<int64_t, int64_t>>;

// "1-20,33" as ranges; kInvalidArgument names what is not one.
[[nodiscard]] Result<NumberRanges> parse_number_ranges(const std::string& text);

// Which problems of a set are wanted; an empty criterion is met by all.
struct ProblemFilter {
  NumberRanges levels = {};
  NumberRanges numbers = {};
  std::string id_pattern = {};  // see id_pattern.h
};

// Loads the problems at `path`: one file, a folder of them, or a folder of KernelBench's levels (level1,
// level2,
// ...; a checkout's root will do), in order of level, number and id. Every file that the filter lets through
// must be a problem: kInvalidData names the file and what it lacks. kNotFound where no problem is left.
[[nodiscard]] Result<std::vector<Problem>> load_problems(const std::string& path,
                                                         const ProblemFilter& filter = {});

}  // namespace nemoforge::trace
