// A run in the layout that KernelBench's own analysis scripts read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/run_store.h"

namespace nemoforge::report {

struct KernelBenchFolder {
  std::string dir;  // out_dir/levelN: "runs/<run_name>" of KernelBench
  int64_t level = 0;
  int64_t num_problems = 0;
  int64_t num_samples = 0;
};

// Writes one folder a level (KernelBench numbers problems within a level), made where it is missing:
// level_L_problem_P_sample_S_kernel.py with every candidate, and eval_results.json, which has for every
// problem number the list of its samples {sample_id, compiled, correctness, metadata, runtime,
// runtime_stats}. Layout: KernelBench's scripts/eval_from_generations.py and benchmark_eval_analysis.py at
// 423217d. A sample is represented by its fastest correct attempt, else by its last one with a verdict;
// runtime is the record's kernel_ms, or KernelBench's -1 where none was measured. Samples without a verdict
// about the candidate have their kernel's file alone. Where references were timed, out_dir/baseline.json has
// the record's reference_ms in the form of KernelBench's results/timing:
// {"level1": {"19_ReLU.py": {"mean": ms}}}. kNotFound where no problem of the run has KernelBench's id
// (level1_19_ReLU), kInvalidData where two problems have one number.
[[nodiscard]] Result<std::vector<KernelBenchFolder>> write_kernelbench(const store::RunStore& run,
                                                                       const std::string& out_dir);

}  // namespace nemoforge::report
