// The engine: requests in, token streams out.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "engine/emit.h"
#include "engine/engine_config.h"
#include "engine/engine_stats.h"
#include "engine/model_runner.h"
#include "engine/output_stream.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "model/model.h"
#include "text/tokenizer/tokenizer.h"

namespace nemoforge::engine {

// Owns the step thread and the output thread. Its functions may be called from any thread.
//
// What a request gives depends on the request alone: the same seed gives the same tokens whatever else runs,
// preempted or not, alone or one of n, from a cold or a warm cache.
class Engine {
 public:
  // `model` and `tokenizer` outlive the engine, and while it lives nobody else uses the model. Without a
  // tokenizer outputs have no text and requests no stop strings nor thinking budget. kResourceExhausted with
  // the figures where the caches do not fit.
  [[nodiscard]] static Result<std::unique_ptr<Engine>> create(model::Model& model,
                                                              const text::Tokenizer* tokenizer,
                                                              const EngineConfig& config);
  // Aborts what runs.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Queues a request; its outputs go to `sink`, which is called until the last one with request_finished. An
  // error (kInvalidArgument: a parameter, named; a prompt that is empty, holds an unknown token or can never
  // fit; kUnavailable: the engine drains, stopped or failed) means that the sink is never called.
  [[nodiscard]] Result<RequestId> add_request(Request request, OutputSink sink);

  // What add_request would say of the request's parameters.
  [[nodiscard]] Status validate(const Request& request) const;

  // Ends a request with kAbort; its caches are free after the current step. Nothing where it has ended.
  void cancel(RequestId id);

  // Takes no more requests and returns when all those it has are finished and their sinks have been called.
  void drain();
  // Takes no more requests, aborts those it has, and returns when their sinks have been called.
  void stop();

  // False once a step has failed (a bug of ours, or no memory): its requests ended with kError, and the
  // engine takes no more.
  [[nodiscard]] bool is_healthy() const;
  [[nodiscard]] EngineStats stats() const;
  [[nodiscard]] const SchedulerConfig& limits() const { return limits_; }

 private:
  // Chosen tokens wait for their sequence.
  struct Choice {
    Sequence* sequence;
    LogitRows row;                  // of the step; count 0: `logits` are those of a branch point
    std::span<const float> logits;  // in host memory, where they are needed there
    Result<sampling::SampledToken> token;
    std::vector<uint32_t> mask;  // memory for the mask of a device's choice
  };

  Engine(model::Model& model, const text::Tokenizer* tokenizer, const SchedulerConfig& limits,
         std::unique_ptr<ModelRunner> runner);

  // The vocabulary for grammars; made for the first request that has one.
  [[nodiscard]] std::shared_ptr<const grammar::TokenTrie> token_trie() const;
  [[nodiscard]] std::vector<std::shared_ptr<Sequence>> make_sequences(RequestId id, Request&& request,
                                                                      OutputSink&& sink) const;

  // Of the step thread.
  void run();
  bool take_commands();
  void step();
  [[nodiscard]] std::vector<Choice> use_logits(const std::vector<ScheduledSequence>& work,
                                               const std::vector<LogitRows>& rows);
  void note_scheduled(const ScheduledSequence& item, Clock::time_point now);
  [[nodiscard]] Status score_prompt(const ScheduledSequence& item, std::span<const float> logits);
  void choose_tokens(std::vector<Choice>& choices);
  [[nodiscard]] Result<sampling::SampleInput> sample_input(const Choice& choice) const;
  void choose_on_device(std::vector<Choice>& choices);
  void choose_on_host(std::span<Choice* const> choices);
  void emit_tokens(std::vector<Choice>& choices);
  void end_sequence(Sequence& sequence, FinishReason reason, std::optional<Error> error);
  void retire(Sequence& sequence, FinishReason reason);
  void abort_all();
  void fail(const Error& error);
  void publish_stats();

  const model::Model& model_;
  const text::Tokenizer* tokenizer_;
  const SchedulerConfig limits_;
  std::vector<int32_t> eos_token_ids_;
  std::shared_ptr<const ThinkingTokens> thinking_tokens_;
  mutable std::once_flag token_trie_made_;
  mutable std::shared_ptr<const grammar::TokenTrie> token_trie_;

  // Shared with callers.
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Sequence>> incoming_;
  std::vector<RequestId> cancelled_;
  RequestId next_id_ = 1;
  bool accepting_ = true;
  bool aborting_ = false;
  bool failed_ = false;
  bool idle_ = true;  // the step thread has nothing to do
  bool exiting_ = false;
  EngineStats stats_;  // as of the last step

  // Of the step thread.
  std::unique_ptr<ModelRunner> runner_;
  SchedulerState scheduler_;
  uint64_t next_arrival_ = 0;
  std::unordered_map<RequestId, std::vector<std::shared_ptr<Sequence>>> active_;
  std::vector<OutputEvent> events_;
  std::vector<sampling::SampleScratch> scratch_;  // one for every thread of the pool
  EngineStats counters_;

  OutputThread output_;
  std::thread thread_;
};

}  // namespace nemoforge::engine
