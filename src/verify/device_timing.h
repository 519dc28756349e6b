// The timing of one candidate on a GPU by the judge's own clock.
//
// A timed call is: the reference's process writes fresh inputs (secret seed) into the shared memory, poisons
// the place of the output and evicts the L2 cache; then the clock runs from the command to the candidate's
// process until its answer, which a process that works as told gives when all work of its context has ended.
// In calls that only the judge knows, the reference's process then overwrites the inputs, the candidate's
// process hands out the output, and the reference's process compares it: work that was left for later has no
// inputs any more, and the time of handing out is on the judge's clock as well. What that clock sees beyond
// the work is measured in the candidate's process before the candidate is loaded there.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "base/rng.h"
#include "verify/candidate_session.h"
#include "verify/gpu_device.h"
#include "verify/reference_worker.h"

namespace nemoforge::verify {

// What a timed call needs to know of the problem.
struct TimedProblem {
  int instance = 0;  // of the models on both sides
  io::Json outputs;  // form of each output
  int64_t output_offset = 0;
  int64_t output_bytes = 0;
  double seconds_per_call = 0;  // of the candidate, roughly
};

// Times the reference, eager and, if asked, compiled. The GPU must be this thread's alone.
[[nodiscard]] Result<Baselines> time_reference(ReferenceWorker& reference, Rng& rng, int instance,
                                               bool compiled);

// The milliseconds that the judge's clock sees beyond the work of a call: of calls of nothing in the
// candidate's process, before the candidate is loaded there. The GPU must be this thread's alone.
[[nodiscard]] Result<double> time_messages(ReferenceWorker& reference, CandidateSession& candidate, Rng& rng);

// Times the candidate and notes what was seen in the evidence's TimingEvidence. The calls; empty where the
// candidate failed, which is in the evidence then.
[[nodiscard]] Result<TimedCalls> time_candidate(ReferenceWorker& reference, CandidateSession& candidate,
                                                Rng& rng, const TimedProblem& problem, Evidence& evidence,
                                                double* deliver_ms);

}  // namespace nemoforge::verify
