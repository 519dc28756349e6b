// Runs the trials of one candidate on a GPU, and times it there: the reference in one process, the candidate
// in another, their tensors in memory of the GPU that both map; the seeds, the clock and the order of
// everything here.
//
// What is right never lies in memory that the candidate's process maps: the reference's process writes inputs
// into the shared memory, the candidate's process its outputs, and the reference's process compares them
// there, because the usual problems have gigabytes of each.
#pragma once

#include <string>

#include "base/result.h"
#include "verify/gpu_device.h"
#include "verify/judge.h"

namespace nemoforge::verify {

struct DeviceJudgeOptions {
  bool time_compiled = true;  // torch.compile of the reference is a second baseline
};

// As judge_candidate. The record has, where the candidate is correct: kernel_ms, eager_ms (also as
// reference_ms), compile_ms, speedup (over eager), speedup_compile, and `timing` with all figures behind
// them.
[[nodiscard]] Result<JudgeReport> judge_on_gpu(const PythonEnvironment& python, const Sandbox& sandbox,
                                               Workbench& workbench, GpuDevice& device,
                                               const DeviceJudgeOptions& options, const std::string& problem,
                                               const std::string& candidate, const io::Json& overrides,
                                               bool another_follows);

}  // namespace nemoforge::verify
