// Verification by `nemoforge verify-worker` processes elsewhere: balanced over them, retried with back-off.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "verify/backend.h"

namespace nemoforge::verify_remote {

struct RemoteVerifierConfig {
  std::vector<std::string> urls;  // http://host:port
  std::string api_key;
  int num_workers = 0;         // jobs in flight; 0: as many as the workers have slots
  double job_timeout_s = 900;  // of one attempt
  double patience_s = 120;     // while no worker answers
};

// A job whose worker is lost goes to another one; after several lost ones it is `not_verified`, since it may
// be what ends them. Where no worker answers for longer than the patience, or one refuses the key, the run
// ends with an error and the job keeps no verdict.
class RemoteVerifier : public verify::Backend {
 public:
  // Asks every worker for its device. kUnavailable where none answers, kInvalidData where they differ.
  [[nodiscard]] static Result<std::unique_ptr<RemoteVerifier>> connect(const RemoteVerifierConfig& config);
  ~RemoteVerifier() override;

  [[nodiscard]] std::string device_name() const override;
  [[nodiscard]] int num_sessions() const override;
  [[nodiscard]] std::unique_ptr<verify::BackendSession> open_session() const override;

 private:
  struct State;
  explicit RemoteVerifier(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace nemoforge::verify_remote
