#include "engine/generate.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>

#include "base/interrupt.h"

namespace nemoforge::engine {
namespace {

// Outputs on their way from the engine's thread to the caller's.
struct Mailbox {
  std::mutex mutex;
  std::condition_variable arrived;
  std::vector<RequestOutput> outputs;
};

void append(RequestOutput&& output, Completion& completion) {
  std::move(output.tokens.begin(), output.tokens.end(), std::back_inserter(completion.tokens));
  completion.is_reasoning.insert(completion.is_reasoning.end(), output.is_reasoning.begin(),
                                 output.is_reasoning.end());
  completion.text += output.text;
  if (!output.prompt_logprobs.empty()) completion.prompt_logprobs = std::move(output.prompt_logprobs);
  if (output.finish) completion.finish = std::move(*output.finish);
}

}  // namespace

std::vector<int32_t> Completion::token_ids() const {
  std::vector<int32_t> ids;
  for (const sampling::SampledToken& token : tokens) ids.push_back(token.token_id);
  return ids;
}

Result<std::vector<Completion>> generate(Engine& engine, Request request,
                                         const std::function<bool(const RequestOutput&)>& on_output) {
  constexpr auto kInterruptPoll = std::chrono::milliseconds(100);
  std::vector<Completion> completions(static_cast<size_t>(std::max(request.n, 1)));
  const auto mailbox = std::make_shared<Mailbox>();
  NF_TRY(const RequestId id, engine.add_request(std::move(request), [mailbox](RequestOutput&& output) {
    {
      const std::lock_guard lock(mailbox->mutex);
      mailbox->outputs.push_back(std::move(output));
    }
    mailbox->arrived.notify_one();
  }));
  bool cancelled = false;
  for (bool finished = false; !finished;) {
    std::vector<RequestOutput> outputs;
    {
      std::unique_lock lock(mailbox->mutex);
      mailbox->arrived.wait_for(lock, kInterruptPoll, [&] { return !mailbox->outputs.empty(); });
      outputs.swap(mailbox->outputs);
    }
    bool wanted = !interrupted();
    for (RequestOutput& output : outputs) {
      if (on_output && !cancelled) wanted = on_output(output) && wanted;
      finished = finished || output.request_finished;
      append(std::move(output), completions[output.completion_idx]);
    }
    if (!wanted && !cancelled) {
      cancelled = true;
      engine.cancel(id);
    }
  }
  for (const Completion& completion : completions) {
    if (completion.finish.error) return tl::unexpected<Error>(*completion.finish.error);
  }
  return completions;
}

}  // namespace nemoforge::engine
