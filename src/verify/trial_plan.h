// Which calls a candidate is put through, and in which order: drawn from secret seeds, so that neither the
// number of a call nor its inputs can be foreseen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nemoforge::verify {

// One object of the model class.
struct Instance {
  uint64_t seed = 0;                // of the constructor
  std::optional<uint64_t> perturb;  // other parameters than the fresh ones
};

struct Trial {
  std::string kind;  // of the distribution of the inputs
  int instance = 0;
  uint64_t seed = 0;              // of the inputs
  bool repeats_previous = false;  // the inputs of the trial before, once more
  bool other_slot = false;        // at another address than the trial before
  bool keep = false;              // its output is looked at again after the next trial
  bool record_accesses = false;   // race check
  bool profile = false;           // operators by the profiler as well
  uint32_t shuffle = 0;           // order of the programs; 0: as numbered
};

struct Plan {
  std::vector<Instance> instances;
  std::vector<Trial> trials;
};

// What the plan depends on.
struct PlanFacts {
  uint64_t seed = 0;               // secret
  std::vector<std::string> kinds;  // distributions that the problem allows
  bool has_parameters = false;
  std::vector<uint64_t> kernelbench_seeds;  // of KernelBench's own trials
  double seconds_per_call = 0;              // of the first call
};

// Instance 0 exists already and has made one call.
[[nodiscard]] Plan make_plan(const PlanFacts& facts, uint64_t first_instance_seed);

}  // namespace nemoforge::verify
