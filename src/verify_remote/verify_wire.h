// The wire format between `nemoforge verify --backend http` and `nemoforge verify-worker`: JSON over HTTP.
//   POST /v1/verify  {"problem": TEXT, "candidate": TEXT, "overrides": {NAME: VALUE}}
//     -> 200 {"record": TEXT, "started_ms": N, "finished_ms": N}: the record is the local backend's, as it
//        would be stored there
//   GET /health -> 200 {"status": "ok" | "draining", "device": "interpret", "slots": N, ...}
// Whatever else comes is no verdict.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "io/json.h"
#include "verify/backend.h"

namespace nemoforge::verify_remote {

struct VerifyJob {
  std::string problem;
  std::string candidate;
  io::Json overrides;
};

// A job as a client sent it. kInvalidArgument names the field.
[[nodiscard]] Result<VerifyJob> parse_verify_job(const std::string& body);
[[nodiscard]] std::string verify_job_body(const VerifyJob& job);

// The answer of a worker; kInvalidData where it is no verdict on `device`.
[[nodiscard]] Result<verify::Verification> parse_verify_answer(const std::string& body,
                                                               const std::string& device);
[[nodiscard]] std::string verify_answer_body(const verify::Verification& verification);

}  // namespace nemoforge::verify_remote
