// A request from begin to end, for callers that wait for it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/request.h"

namespace nemoforge::engine {

struct Completion {
  std::vector<sampling::SampledToken> tokens;
  std::vector<bool> is_reasoning;  // of each token
  std::string text;
  std::vector<sampling::SampledToken> prompt_logprobs;  // of completion 0, where asked for
  Finish finish;

  [[nodiscard]] std::vector<int32_t> token_ids() const;
};

// Runs the request and returns its n completions. `on_output` sees every part as it comes, on this thread;
// when it returns false, or a signal has interrupted the process (base/interrupt.h), the request is cancelled
// and what there is comes back, finished with kAbort. An error of add_request, or of a completion, is
// returned.
[[nodiscard]] Result<std::vector<Completion>> generate(
    Engine& engine, Request request, const std::function<bool(const RequestOutput&)>& on_output = {});

}  // namespace nemoforge::engine
