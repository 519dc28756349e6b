#include "engine/engine.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/integers.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/thread_pool.h"
#include "sampling/device_sampler.h"
#include "text/utf8.h"

namespace nemoforge::engine {
namespace {

Status reject(std::string message) {
  return error(ErrorCode::kInvalidArgument, std::move(message));
}

void count_finish(EngineStats& stats, FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      ++stats.finished_stop;
      break;
    case FinishReason::kLength:
      ++stats.finished_length;
      break;
    case FinishReason::kAbort:
      ++stats.finished_abort;
      break;
    case FinishReason::kError:
      ++stats.finished_error;
      break;
  }
}

// Calls task(i, thread_idx) for all i < count on the threads of the process; what one throws is thrown here.
void for_each_in_pool(size_t count, const std::function<void(size_t i, size_t thread_idx)>& task) {
  ThreadPool& pool = ThreadPool::global();
  std::vector<std::exception_ptr> failures(static_cast<size_t>(pool.num_threads()));
  pool.parallel_for(static_cast<int64_t>(count), [&](int64_t i, int thread_idx) {
    try {
      task(static_cast<size_t>(i), static_cast<size_t>(thread_idx));
    } catch (...) {
      failures[static_cast<size_t>(thread_idx)] = std::current_exception();
    }
  });
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAbort:
      return "abort";
    case FinishReason::kError:
      return "error";
  }
  return "error";
}

Result<std::unique_ptr<Engine>> Engine::create(model::Model& model, const text::Tokenizer* tokenizer,
                                               const EngineConfig& engine_config) {
  EngineConfig config = engine_config;
  if (const auto memory = model.backend().device_memory(); memory && !config.cache_bytes) {
    NF_TRY(config.cache_bytes, device_cache_bytes(config, *memory));
  }
  const CacheCost cost = ModelRunner::cache_cost(model, config.block_size);
  NF_TRY(const SchedulerConfig limits, plan_caches(config, cost, model.config().max_position_embeddings,
                                                   model.config().chunk_size, free_host_bytes()));
  NF_TRY(auto runner, ModelRunner::create(model, limits));
  return std::unique_ptr<Engine>(new Engine(model, tokenizer, limits, std::move(runner)));
}

Engine::Engine(model::Model& model, const text::Tokenizer* tokenizer, const SchedulerConfig& limits,
               std::unique_ptr<ModelRunner> runner)
    : model_(model),
      tokenizer_(tokenizer),
      limits_(limits),
      thinking_tokens_(tokenizer != nullptr ? ThinkingTokens::resolve(*tokenizer) : nullptr),
      runner_(std::move(runner)),
      scheduler_(limits),
      scratch_(static_cast<size_t>(ThreadPool::global().num_threads())) {
  for (const int64_t id : model.config().eos_token_ids) eos_token_ids_.push_back(narrow<int32_t>(id));
  publish_stats();
  thread_ = std::thread([this] { run(); });
}

Engine::~Engine() {
  stop();
  {
    const std::lock_guard lock(mutex_);
    exiting_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Result<RequestId> Engine::add_request(Request request, OutputSink sink) {
  NF_RETURN_IF_ERROR(validate(request));
  RequestId id = 0;
  {
    const std::lock_guard lock(mutex_);
    id = next_id_++;
  }
  auto sequences = make_sequences(id, std::move(request), std::move(sink));
  {
    const std::lock_guard lock(mutex_);
    if (failed_) {
      return error(ErrorCode::kUnavailable, "the engine has failed", "see its log; restart it");
    }
    if (!accepting_) return error(ErrorCode::kUnavailable, "the engine is shutting down");
    std::move(sequences.begin(), sequences.end(), std::back_inserter(incoming_));
    idle_ = false;
  }
  changed_.notify_all();
  return id;
}

void Engine::cancel(RequestId id) {
  {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(id);
    idle_ = false;
  }
  changed_.notify_all();
}

void Engine::drain() {
  {
    std::unique_lock lock(mutex_);
    accepting_ = false;
    changed_.wait(lock, [this] { return idle_; });
  }
  output_.wait_idle();
}

void Engine::stop() {
  {
    const std::lock_guard lock(mutex_);
    aborting_ = true;
    if (!incoming_.empty()) idle_ = false;
  }
  changed_.notify_all();
  drain();
}

bool Engine::is_healthy() const {
  const std::lock_guard lock(mutex_);
  return !failed_;
}

EngineStats Engine::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

Status Engine::validate(const Request& request) const {
  const int64_t vocab_size = model_.config().vocab_size;
  NF_RETURN_IF_ERROR(sampling::validate(request.sampling, vocab_size));
  const auto prompt_len = static_cast<int64_t>(request.prompt_token_ids.size());
  if (prompt_len == 0) return reject("the prompt must hold at least one token.");
  for (const int32_t id : request.prompt_token_ids) {
    if (id < 0 || id >= vocab_size) {
      return reject(fmt::format("the prompt contains token id {}, which is out of vocabulary (size {}).", id,
                                vocab_size));
    }
  }
  const int64_t max_len = limits_.max_model_len;
  if (prompt_len >= max_len) {
    return reject(
        fmt::format("This model's maximum context length is {} tokens. However, your prompt has {} "
                    "tokens, which leaves none for the completion.",
                    max_len, prompt_len));
  }
  if (request.max_tokens && *request.max_tokens < 1) {
    return reject(fmt::format("max_tokens must be at least 1, got {}.", *request.max_tokens));
  }
  if (request.max_tokens && prompt_len + *request.max_tokens > max_len) {
    return reject(
        fmt::format("This model's maximum context length is {} tokens. However, you requested {} "
                    "tokens ({} in the prompt, {} in the completion).",
                    max_len, prompt_len + *request.max_tokens, prompt_len, *request.max_tokens));
  }
  if (request.max_tokens && request.sampling.min_tokens > *request.max_tokens) {
    return reject(fmt::format("min_tokens must be less than or equal to max_tokens={}, got {}.",
                              *request.max_tokens, request.sampling.min_tokens));
  }
  if (request.n < 1) return reject(fmt::format("n must be at least 1, got {}.", request.n));
  for (const std::string& stop : request.stop) {
    if (stop.empty()) return reject("stop cannot contain an empty string.");
    if (!text::is_valid_utf8(stop)) return reject("stop must be UTF-8.");
    if (tokenizer_ == nullptr) return reject("stop needs a tokenizer, and the model has none.");
  }
  if (const auto& top = request.prompt_top_logprobs; top && (*top < 0 || *top > sampling::kMaxTopLogprobs)) {
    return reject(
        fmt::format("prompt_logprobs must be in [0, {}], got {}.", sampling::kMaxTopLogprobs, *top));
  }
  if (request.grammar && tokenizer_ == nullptr) {
    return reject("a grammar needs a tokenizer, and the model has none.");
  }
  if (const auto& budget = request.thinking_budget) {
    if (budget->max_tokens < 0 || budget->grace_tokens < 0) {
      return reject(fmt::format("thinking_token_budget must be non-negative, got {}.", budget->max_tokens));
    }
    if (!thinking_tokens_) {
      return reject("thinking_token_budget needs a model whose tokenizer has <think> and </think>.");
    }
  }
  return {};
}

std::shared_ptr<const grammar::TokenTrie> Engine::token_trie() const {
  std::call_once(token_trie_made_, [this] {
    std::vector<std::string_view> bytes(static_cast<size_t>(tokenizer_->vocab_size()));
    for (size_t id = 0; id < bytes.size(); ++id) {
      if (!tokenizer_->is_special(static_cast<int64_t>(id))) {
        bytes[id] = tokenizer_->token_bytes(static_cast<int64_t>(id));
      }
    }
    if (thinking_tokens_) {
      bytes[static_cast<size_t>(thinking_tokens_->think_start)] = {};
      bytes[static_cast<size_t>(thinking_tokens_->think_end)] = {};
      // The model opens and closes a call with these, though the vocabulary lists them as special.
      for (const int32_t id : {thinking_tokens_->tool_call_start, thinking_tokens_->tool_call_end}) {
        if (id >= 0) bytes[static_cast<size_t>(id)] = tokenizer_->token_bytes(id);
      }
    }
    bytes.resize(static_cast<size_t>(model_.config().vocab_size));  // the mask has a bit for every logit
    token_trie_ = std::make_shared<const grammar::TokenTrie>(bytes, eos_token_ids_);
  });
  return token_trie_;
}

std::vector<std::shared_ptr<Sequence>> Engine::make_sequences(RequestId id, Request&& request,
                                                              OutputSink&& sink) const {
  const auto arrival = Clock::now();
  auto state = std::make_shared<RequestState>();
  state->id = id;
  state->seed = request.sampling.seed ? *request.sampling.seed : secret_seed();
  state->num_unbranched = request.n;
  state->request = std::move(request);
  const Request& kept = state->request;
  auto group = std::make_shared<OutputGroup>();
  group->request_id = id;
  group->sink = std::move(sink);
  group->num_unfinished = kept.n;

  std::vector<std::shared_ptr<Sequence>> sequences;
  for (int32_t i = 0; i < kept.n; ++i) {
    auto sequence = std::make_shared<Sequence>(
        state, ThinkingState(thinking_tokens_, kept.thinking_budget, kept.prompt_token_ids));
    const auto completion_idx = static_cast<uint32_t>(i);
    sequence->output = std::make_shared<OutputStream>(tokenizer_, thinking_tokens_, kept, state->seed,
                                                      completion_idx, arrival, group);
    sequence->sample_idx = kept.first_sample_idx + completion_idx;
    sequence->tokens = kept.prompt_token_ids;
    sequence->prompt_len = sequence->num_tokens();
    sequence->max_len = kept.max_tokens ? sequence->prompt_len + *kept.max_tokens : limits_.max_model_len;
    if (kept.grammar) sequence->matcher.emplace(kept.grammar, token_trie());
    if (kept.sampling.has_penalties()) sequence->history.add_prompt(kept.prompt_token_ids);
    sequence->arrival = sequence->scheduled = sequence->last_token = arrival;
    sequences.push_back(std::move(sequence));
  }
  return sequences;
}

void Engine::run() {
  for (;;) {
    try {
      if (!take_commands()) return;
      step();
    } catch (const std::exception& e) {
      spdlog::critical("the engine's step failed: {}", e.what());
      fail(Error{ErrorCode::kUnavailable, fmt::format("the engine's step failed: {}", e.what()), {}});
    }
    publish_stats();  // first: whoever has seen an output finds it counted
    output_.post(std::exchange(events_, {}));
  }
}

// Sleeps while there is nothing to do; false when the engine ends.
bool Engine::take_commands() {
  std::vector<std::shared_ptr<Sequence>> incoming;
  std::vector<RequestId> cancelled;
  bool abort = false;
  {
    std::unique_lock lock(mutex_);
    if (active_.empty() && incoming_.empty() && cancelled_.empty() && !idle_) {
      idle_ = true;
      changed_.notify_all();
    }
    changed_.wait(
        lock, [this] { return exiting_ || !active_.empty() || !incoming_.empty() || !cancelled_.empty(); });
    if (exiting_) return false;
    incoming.swap(incoming_);
    cancelled.swap(cancelled_);
    abort = aborting_ || failed_;
  }
  for (auto& sequence : incoming) {
    sequence->arrival_order = next_arrival_++;
    active_[sequence->request->id].push_back(sequence);
    enqueue(scheduler_, std::move(sequence));
  }
  for (const RequestId id : cancelled) {
    const auto found = active_.find(id);
    if (found == active_.end()) continue;
    const auto sequences = found->second;
    for (const auto& sequence : sequences) end_sequence(*sequence, FinishReason::kAbort, {});
  }
  if (abort) abort_all();
  return true;
}

void Engine::step() {
  const auto begin = Clock::now();
  const auto running = scheduler_.running;
  for (const auto& sequence : running) {
    if (sequence->output->has_ended()) retire(*sequence, FinishReason::kStop);
  }
  admit(scheduler_);
  std::vector<ScheduledSequence> work = budget(scheduler_);
  allocate(scheduler_, work);
  runner_->copy(std::exchange(scheduler_.copies, {}));

  const auto forward_begin = Clock::now();
  const std::vector<LogitRows> rows = runner_->forward(work);
  counters_.forward_s += seconds(Clock::now() - forward_begin);
  for (const ScheduledSequence& item : work) note_scheduled(item, forward_begin);

  std::vector<Choice> choices = use_logits(work, rows);
  NF_CHECK(active_.empty() || !work.empty() || !choices.empty()) << "requests are stuck";
  choose_tokens(choices);
  emit_tokens(choices);
  ++counters_.num_steps;
  counters_.step_s += seconds(Clock::now() - begin);
}

// Scores prompts, counts the tokens as computed, fills branch points; returns where tokens are to be chosen.
std::vector<Engine::Choice> Engine::use_logits(const std::vector<ScheduledSequence>& work,
                                               const std::vector<LogitRows>& rows) {
  std::vector<Choice> choices;
  std::vector<std::pair<Sequence*, Error>> failed;
  std::vector<std::pair<RequestState*, LogitRows>> prompt_ends;
  for (size_t i = 0; i < work.size(); ++i) {
    const ScheduledSequence& item = work[i];
    bool is_failed = false;
    if (item.scores_prompt()) {
      if (Status scored = score_prompt(item, runner_->host_logits(rows[i])); !scored) {
        failed.emplace_back(item.sequence, std::move(scored).error());
        is_failed = true;
      }
    }
    if (!item.needs_logits()) continue;
    const LogitRows last_row{rows[i].first + rows[i].count - 1, 1};
    if (item.chooses_token() && !is_failed) choices.push_back({item.sequence, last_row, {}, {}, {}});
    if (!item.is_decode) prompt_ends.emplace_back(item.sequence->request.get(), last_row);
  }
  advance(scheduler_, work);
  runner_->copy(std::exchange(scheduler_.copies, {}));
  for (const auto& [request, row] : prompt_ends) {
    auto& branch = request->branch;
    if (branch && !branch->logits) {
      const auto logits = runner_->host_logits(row);
      branch->logits = std::make_shared<const std::vector<float>>(logits.begin(), logits.end());
    }
  }
  for (auto& [sequence, error] : failed) end_sequence(*sequence, FinishReason::kError, std::move(error));
  for (const auto& sequence : scheduler_.running) {
    if (sequence->first_logits) choices.push_back({sequence.get(), {}, *sequence->first_logits, {}, {}});
  }
  return choices;
}

void Engine::note_scheduled(const ScheduledSequence& item, Clock::time_point now) {
  Sequence& sequence = *item.sequence;
  if (!item.is_decode) counters_.prefilled_tokens += item.num_tokens;
  if (sequence.scheduled != sequence.arrival) return;
  sequence.scheduled = now;
  counters_.queue_time_s.observe(seconds(now - sequence.arrival));
}

// Scores the tokens that follow the rows' in the prompt, but those that were scored before a preemption.
Status Engine::score_prompt(const ScheduledSequence& item, std::span<const float> logits) {
  const Sequence& sequence = *item.sequence;
  auto& scores = sequence.request->prompt_logprobs;
  const auto vocab_size = static_cast<size_t>(model_.config().vocab_size);
  const auto begin = static_cast<size_t>(sequence.num_computed);
  const size_t end = std::min(static_cast<size_t>(item.end()), sequence.prompt().size() - 1);
  const size_t first_new = std::max(begin, scores.size());
  if (first_new >= end) return {};
  const int32_t num_top = *sequence.request->request.prompt_top_logprobs;
  std::vector<Result<sampling::SampledToken>> found(end - first_new);
  for_each_in_pool(found.size(), [&](size_t i, size_t) {
    const size_t position = first_new + i;
    found[i] = sampling::score(logits.subspan((position - begin) * vocab_size, vocab_size),
                               sequence.tokens[position + 1], num_top);
  });
  for (auto& score : found) {
    if (!score) return forward_error(std::move(score));
    scores.push_back(std::move(*score));
  }
  return {};
}

// All of sample()'s input but the logits.
Result<sampling::SampleInput> Engine::sample_input(const Choice& choice) const {
  Sequence& sequence = *choice.sequence;
  sampling::SampleInput input;
  input.params = &sequence.request->request.sampling;
  input.history = &sequence.history;
  input.eos_token_ids = eos_token_ids_;
  input.seed = sequence.request->seed;
  input.sample_idx = sequence.sample_idx;
  input.position = static_cast<uint32_t>(sequence.completion_len());
  if (sequence.matcher && sequence.thinking.in_thought()) {
    input.token_mask = sequence.matcher->mask_before();  // an answer has to come
  } else if (sequence.matcher) {
    NF_TRY(input.token_mask, sequence.matcher->mask());
  }
  return input;
}

void Engine::choose_tokens(std::vector<Choice>& choices) {
  if (runner_->chooses_tokens()) return choose_on_device(choices);
  std::vector<Choice*> all;
  for (Choice& choice : choices) all.push_back(&choice);
  choose_on_host(all);
}

// One token from every row of the step where the logits are; what the device does not decide, forced tokens
// and branch points are the host's.
void Engine::choose_on_device(std::vector<Choice>& choices) {
  std::vector<ops::TokenChoiceRow> rows(static_cast<size_t>(runner_->num_rows()));
  std::vector<Choice*> of_device;
  std::vector<Choice*> of_host;
  for (Choice& choice : choices) {
    const bool is_device = choice.row.count > 0 && !choice.sequence->thinking.forced_token();
    (is_device ? of_device : of_host).push_back(&choice);
  }
  const int64_t vocab_size = model_.config().vocab_size;
  for_each_in_pool(of_device.size(), [&](size_t i, size_t) {
    Choice& choice = *of_device[i];
    const auto input = sample_input(choice);
    choice.token = input ? sampling::SampledToken{} : Result<sampling::SampledToken>(forward_error(input));
    if (!input) return;
    rows[static_cast<size_t>(choice.row.first)] = sampling::to_choice_row(*input, vocab_size, choice.mask);
  });
  std::vector<ops::ChosenToken> chosen(rows.size());
  if (!of_device.empty()) runner_->choose(rows, chosen);
  for (Choice* choice : of_device) {
    if (!choice->token) continue;
    const ops::ChosenToken& token = chosen[static_cast<size_t>(choice->row.first)];
    if (token.status == ops::TokenChoiceStatus::kUndecided) {
      of_host.push_back(choice);
    } else {
      choice->token = sampling::from_choice(token);
    }
  }
  choose_on_host(of_host);
}

void Engine::choose_on_host(std::span<Choice* const> choices) {
  for (Choice* choice : choices) {
    const bool is_forced = choice->sequence->thinking.forced_token().has_value();
    const bool needs_logits = !is_forced || choice->sequence->request->request.sampling.top_logprobs;
    if (choice->row.count > 0 && needs_logits) choice->logits = runner_->host_logits(choice->row);
  }
  for_each_in_pool(choices.size(), [&](size_t choice_idx, size_t thread_idx) {
    Choice& choice = *choices[choice_idx];
    Sequence& sequence = *choice.sequence;
    const sampling::SamplingParams& params = sequence.request->request.sampling;
    if (const auto forced = sequence.thinking.forced_token()) {
      choice.token = params.top_logprobs ? sampling::score(choice.logits, *forced, *params.top_logprobs)
                                         : sampling::SampledToken{*forced, 0, {}};
      return;
    }
    auto input = sample_input(choice);
    if (!input) {
      choice.token = forward_error(input);
      return;
    }
    input->logits = choice.logits;
    choice.token = sampling::sample(*input, scratch_[thread_idx]);
  });
}

void Engine::emit_tokens(std::vector<Choice>& choices) {
  const auto now = Clock::now();
  for (Choice& choice : choices) {
    Sequence& sequence = *choice.sequence;
    sequence.first_logits.reset();
    if (!choice.token) {
      end_sequence(sequence, FinishReason::kError, choice.token.error());
      continue;
    }
    const bool is_first = sequence.completion_len() == 0;
    Emission emission = emit(sequence, std::move(*choice.token), eos_token_ids_);
    if (is_first) {
      counters_.prompt_tokens += sequence.prompt_len;
      counters_.time_to_first_token_s.observe(seconds(now - sequence.arrival));
    } else {
      counters_.inter_token_latency_s.observe(seconds(now - sequence.last_token));
    }
    sequence.last_token = now;
    ++counters_.generation_tokens;
    if (is_first && sequence.sample_idx == sequence.request->request.first_sample_idx) {
      emission.prompt_logprobs = std::move(sequence.request->prompt_logprobs);
    }
    const auto reason = emission.finish;
    events_.push_back(
        {sequence.output, std::move(emission), {}, now, sequence.scheduled, sequence.cached_tokens});
    if (reason) retire(sequence, *reason);
  }
}

// Ends a sequence in the middle.
void Engine::end_sequence(Sequence& sequence, FinishReason reason, std::optional<Error> error) {
  Finish finish;
  finish.reason = reason;
  finish.error = std::move(error);
  events_.push_back(
      {sequence.output, {}, std::move(finish), Clock::now(), sequence.scheduled, sequence.cached_tokens});
  retire(sequence, reason);
}

// Frees what a sequence whose end its stream knows has in the scheduler and in the tables.
void Engine::retire(Sequence& sequence, FinishReason reason) {
  const RequestId id = sequence.request->id;
  counters_.request_latency_s.observe(seconds(Clock::now() - sequence.arrival));
  count_finish(counters_, reason);
  finish(scheduler_, sequence);
  auto& sequences = active_.at(id);
  std::erase_if(sequences, [&](const auto& other) { return other.get() == &sequence; });
  if (sequences.empty()) active_.erase(id);
}

void Engine::abort_all() {
  const auto active = active_;
  for (const auto& [id, sequences] : active) {
    for (const auto& sequence : sequences) end_sequence(*sequence, FinishReason::kAbort, {});
  }
}

// Ends every request after a step that failed half-way. What the scheduler holds may be inconsistent, and is
// left alone.
void Engine::fail(const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    failed_ = true;
    accepting_ = false;
  }
  for (const auto& [id, sequences] : active_) {
    for (const auto& sequence : sequences) {
      Finish finish;
      finish.reason = FinishReason::kError;
      finish.error = error;
      events_.push_back({sequence->output,
                         {},
                         std::move(finish),
                         Clock::now(),
                         sequence->scheduled,
                         sequence->cached_tokens});
      count_finish(counters_, FinishReason::kError);
    }
  }
  active_.clear();
  scheduler_.running.clear();
  scheduler_.waiting.clear();
}

void Engine::publish_stats() {
  counters_.num_running = static_cast<int64_t>(scheduler_.running.size());
  counters_.num_waiting = static_cast<int64_t>(scheduler_.waiting.size());
  counters_.num_blocks = scheduler_.blocks.num_blocks();
  counters_.num_free_blocks = scheduler_.blocks.num_free();
  counters_.num_state_slots = scheduler_.slots.num_slots();
  counters_.num_free_state_slots = scheduler_.slots.num_free();
  if (const auto& cache = scheduler_.prefix_cache) {
    counters_.num_cached_blocks = cache->num_idle_blocks();
    counters_.num_cached_snapshots = cache->num_snapshots();
    counters_.num_free_blocks += counters_.num_cached_blocks;
    counters_.num_free_state_slots += counters_.num_cached_snapshots;
  }
  counters_.prefix_cache_queries = scheduler_.prefix_cache_queries;
  counters_.prefix_cache_hits = scheduler_.prefix_cache_hits;
  counters_.num_preemptions = scheduler_.num_preemptions;
  const std::lock_guard lock(mutex_);
  stats_ = counters_;
}

}  // namespace nemoforge::engine
