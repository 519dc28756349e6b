#include "store/run_store.h"

#include <chrono>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <span>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "io/json.h"
#include "store/run_lock.h"
#include "store/schema.h"
#include "store/sqlite.h"

namespace nemoforge::store {
namespace {

constexpr const char* kDatabaseName = "run.sqlite";

constexpr const char* kTraceColumns =
    "traces.id, problem_id, sample_idx, attempt_idx, messages_json, prompt, prompt_token_ids, "
    "completion_token_ids, completion_logprobs, template_hash, completion, reasoning, answer, code, "
    "num_prompt_tokens, num_completion_tokens, num_reasoning_tokens, finish_reason, sampling_json, seed, "
    "model, adapter, checkpoint_hash, endpoint, traces.started_ms, traces.finished_ms";
constexpr int kNumTraceColumns = 26;

constexpr const char* kVerdictColumns =
    "verdicts.trace_id, verdict, family, stage, correct, speedup, device, sandboxed, record_json, "
    "verdicts.started_ms, verdicts.finished_ms";

int64_t now_ms() {
  using std::chrono::duration_cast;
  using std::chrono::milliseconds;
  return duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// FNV-1a, 64 bits: tells two texts apart for the reader of a table; nothing trusts it.
std::string text_hash(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  std::string hex(16, '0');
  for (size_t i = 0; i < 16; ++i) hex[15 - i] = "0123456789abcdef"[(hash >> (4 * i)) & 15];
  return hex;
}

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

template <typename T>
std::vector<T> values_of(std::span<const std::byte> bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

Trace read_trace(const Statement& row) {
  Trace trace;
  int column = 0;
  const auto text = [&] { return row.column_text(column++); };
  const auto integer = [&] { return row.column_int64(column++); };
  trace.id = integer();
  trace.problem_id = text();
  trace.sample_idx = integer();
  trace.attempt_idx = integer();
  trace.messages_json = text();
  trace.prompt = text();
  trace.prompt_token_ids = values_of<int32_t>(row.column_blob(column++));
  trace.completion_token_ids = values_of<int32_t>(row.column_blob(column++));
  trace.completion_logprobs = values_of<float>(row.column_blob(column++));
  trace.template_hash = text();
  trace.completion = text();
  trace.reasoning = text();
  trace.answer = text();
  trace.code = text();
  trace.num_prompt_tokens = integer();
  trace.num_completion_tokens = integer();
  trace.num_reasoning_tokens = integer();
  trace.finish_reason = text();
  trace.sampling_json = text();
  trace.seed = static_cast<uint64_t>(integer());
  trace.model = text();
  trace.adapter = text();
  trace.checkpoint_hash = text();
  trace.endpoint = text();
  trace.started_ms = integer();
  trace.finished_ms = integer();
  NF_CHECK(column == kNumTraceColumns);
  return trace;
}

Verdict read_verdict(const Statement& row, int first_column) {
  Verdict verdict;
  int column = first_column;
  verdict.trace_id = row.column_int64(column++);
  verdict.verdict = row.column_text(column++);
  verdict.family = row.column_text(column++);
  verdict.stage = row.column_text(column++);
  verdict.correct = row.column_int64(column++) != 0;
  verdict.speedup = row.column_optional_double(column++);
  verdict.device = row.column_text(column++);
  verdict.sandboxed = row.column_int64(column++) != 0;
  verdict.record_json = row.column_text(column++);
  verdict.started_ms = row.column_int64(column++);
  verdict.finished_ms = row.column_int64(column++);
  return verdict;
}

Problem read_problem(const Statement& row) {
  return {row.column_text(0), row.column_text(1), row.column_text(2), row.column_text(3)};
}

// Empty is the empty object; anything else must be a JSON object.
Result<std::string> normalised_object(const std::string& text, const std::string& what) {
  if (text.empty()) return std::string("{}");
  NF_TRY(const io::Json value, io::parse_json(text));
  if (!value.is_object()) return error(ErrorCode::kInvalidArgument, what + " is not a JSON object: " + text);
  return io::dump_json(value);
}

Result<int64_t> record_invocation(Database& database, const Invocation& invocation) {
  NF_TRY(
      Statement insert,
      database.prepare(
          "INSERT INTO runs (command, nemoforge_version, config_json, started_ms) VALUES (?1, ?2, ?3, ?4)"));
  insert.bind(1, std::string_view(invocation.command));
  insert.bind(2, std::string_view(invocation.nemoforge_version));
  insert.bind(3, std::string_view(invocation.config_json));
  insert.bind(4, now_ms());
  NF_RETURN_IF_ERROR(insert.run());
  return database.last_insert_rowid();
}

}  // namespace

struct RunStore::State {
  mutable std::mutex mutex;
  mutable Database database;
  RunLock lock;
  int64_t run_id = 0;  // 0: opened for reading
};

RunStore::RunStore(std::unique_ptr<State> state) : state_(std::move(state)) {}
RunStore::RunStore(RunStore&& other) noexcept = default;
RunStore& RunStore::operator=(RunStore&& other) noexcept = default;
RunStore::~RunStore() = default;

Result<RunStore> RunStore::open(const std::string& dir, Access access, const Invocation& invocation) {
  auto state = std::make_unique<State>();
  const std::string path = (std::filesystem::path(dir) / kDatabaseName).string();
  if (access != Access::kTrace && !std::filesystem::exists(path)) {
    return error(ErrorCode::kNotFound, "there is no run in " + dir + ": " + kDatabaseName + " is missing",
                 "nemoforge trace creates one");
  }
  if (access == Access::kRead) {
    NF_TRY(state->database, Database::open(path, true));
    NF_RETURN_IF_ERROR(check_schema(state->database));
    return RunStore(std::move(state));
  }
  std::error_code failure;
  std::filesystem::create_directories(dir, failure);
  if (failure) return error(ErrorCode::kIo, "cannot create the folder " + dir + ": " + failure.message());
  const char* lock_name = access == Access::kTrace ? "trace.lock" : "verify.lock";
  NF_TRY(state->lock, RunLock::acquire((std::filesystem::path(dir) / lock_name).string()));
  NF_TRY(state->database, Database::open(path, false));
  // FULL: a trace that add_trace has acknowledged survives a power failure too. A trace costs seconds to
  // make, the sync milliseconds.
  NF_RETURN_IF_ERROR(state->database.execute(
      "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON"));
  NF_RETURN_IF_ERROR(migrate_schema(state->database));
  NF_TRY(state->run_id, record_invocation(state->database, invocation));
  return RunStore(std::move(state));
}

Status RunStore::add_problem(const Problem& problem) {
  NF_TRY(const std::string overrides,
         normalised_object(problem.overrides_json, "overrides of " + problem.id));
  const std::scoped_lock lock(state_->mutex);
  NF_CHECK(state_->run_id != 0) << "the run is open for reading only";
  NF_TRY(Statement insert,
         state_->database.prepare("INSERT INTO problems (id, source, source_hash, origin, overrides_json) "
                                  "VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO NOTHING"));
  insert.bind(1, std::string_view(problem.id)).bind(2, std::string_view(problem.source));
  insert.bind(3, std::string_view(text_hash(problem.source))).bind(4, std::string_view(problem.origin));
  insert.bind(5, std::string_view(overrides));
  NF_RETURN_IF_ERROR(insert.run());
  NF_TRY(Statement select,
         state_->database.prepare("SELECT source = ?2 AND overrides_json = ?3 FROM problems WHERE id = ?1"));
  select.bind(1, std::string_view(problem.id)).bind(2, std::string_view(problem.source));
  select.bind(3, std::string_view(overrides));
  NF_TRY(const bool found, select.step());
  if (!found || select.column_int64(0) == 0) {
    return error(ErrorCode::kInvalidArgument,
                 "problem " + problem.id + " is in the run already with another text or other overrides",
                 "use another run folder for a changed problem set");
  }
  return {};
}

Result<std::optional<Problem>> RunStore::problem(const std::string& id) const {
  const std::scoped_lock lock(state_->mutex);
  NF_TRY(Statement select,
         state_->database.prepare("SELECT id, source, origin, overrides_json FROM problems WHERE id = ?1"));
  select.bind(1, std::string_view(id));
  NF_TRY(const bool found, select.step());
  if (!found) return std::optional<Problem>();
  return std::optional<Problem>(read_problem(select));
}

Result<std::vector<Problem>> RunStore::problems() const {
  const std::scoped_lock lock(state_->mutex);
  NF_TRY(Statement select,
         state_->database.prepare("SELECT id, source, origin, overrides_json FROM problems ORDER BY id"));
  std::vector<Problem> problems;
  while (true) {
    NF_TRY(const bool row, select.step());
    if (!row) return problems;
    problems.push_back(read_problem(select));
  }
}

Result<int64_t> RunStore::add_trace(const Trace& trace) {
  const std::scoped_lock lock(state_->mutex);
  NF_CHECK(state_->run_id != 0) << "the run is open for reading only";
  NF_TRY(Statement insert,
         state_->database.prepare(
             "INSERT INTO traces (run_id, problem_id, sample_idx, attempt_idx, messages_json, prompt, "
             "prompt_token_ids, completion_token_ids, completion_logprobs, template_hash, completion, "
             "reasoning, answer, code, num_prompt_tokens, num_completion_tokens, num_reasoning_tokens, "
             "finish_reason, sampling_json, seed, model, adapter, checkpoint_hash, endpoint, started_ms, "
             "finished_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, "
             "?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26)"));
  int index = 0;
  const auto text = [&](const std::string& value) { insert.bind(++index, std::string_view(value)); };
  const auto integer = [&](int64_t value) { insert.bind(++index, value); };
  integer(state_->run_id);
  text(trace.problem_id);
  integer(trace.sample_idx);
  integer(trace.attempt_idx);
  text(trace.messages_json);
  text(trace.prompt);
  insert.bind_blob(++index, bytes_of(trace.prompt_token_ids));
  insert.bind_blob(++index, bytes_of(trace.completion_token_ids));
  insert.bind_blob(++index, bytes_of(trace.completion_logprobs));
  text(trace.template_hash);
  text(trace.completion);
  text(trace.reasoning);
  text(trace.answer);
  text(trace.code);
  integer(trace.num_prompt_tokens);
  integer(trace.num_completion_tokens);
  integer(trace.num_reasoning_tokens);
  text(trace.finish_reason);
  text(trace.sampling_json);
  integer(static_cast<int64_t>(trace.seed));
  text(trace.model);
  text(trace.adapter);
  text(trace.checkpoint_hash);
  text(trace.endpoint);
  integer(trace.started_ms);
  integer(trace.finished_ms);
  NF_CHECK(index == kNumTraceColumns);
  const Status stored = insert.run();
  if (!stored && stored.error().code == ErrorCode::kInvalidArgument) {
    return error(ErrorCode::kInvalidArgument,
                 "trace (" + trace.problem_id + ", sample " + std::to_string(trace.sample_idx) +
                     ", attempt " + std::to_string(trace.attempt_idx) +
                     ") is in the run already, or its problem is not: " + stored.error().message);
  }
  NF_RETURN_IF_ERROR(stored);
  return state_->database.last_insert_rowid();
}

Result<bool> RunStore::has_trace(const std::string& problem_id, int64_t sample_idx,
                                 int64_t attempt_idx) const {
  const std::scoped_lock lock(state_->mutex);
  NF_TRY(Statement select,
         state_->database.prepare(
             "SELECT 1 FROM traces WHERE problem_id = ?1 AND sample_idx = ?2 AND attempt_idx = ?3"));
  select.bind(1, std::string_view(problem_id)).bind(2, sample_idx).bind(3, attempt_idx);
  return select.step();
}

Status RunStore::for_each_trace(const std::function<bool(JudgedTrace&&)>& visit) const {
  const std::scoped_lock lock(state_->mutex);
  NF_TRY(
      Statement select,
      state_->database.prepare(
          std::string("SELECT ") + kTraceColumns + ", " + kVerdictColumns +
          " FROM traces LEFT JOIN verdicts ON verdicts.id = (SELECT MAX(newest.id) FROM verdicts AS newest "
          "WHERE newest.trace_id = traces.id) ORDER BY problem_id, sample_idx, attempt_idx"));
  while (true) {
    NF_TRY(const bool row, select.step());
    if (!row) return {};
    JudgedTrace judged{read_trace(select), std::nullopt};
    if (select.column_int64(kNumTraceColumns) != 0) judged.verdict = read_verdict(select, kNumTraceColumns);
    if (!visit(std::move(judged))) return {};
  }
}

Result<std::optional<Trace>> RunStore::trace(int64_t id) const {
  const std::scoped_lock lock(state_->mutex);
  NF_TRY(Statement select, state_->database.prepare(std::string("SELECT ") + kTraceColumns +
                                                    " FROM traces WHERE traces.id = ?1"));
  select.bind(1, id);
  NF_TRY(const bool found, select.step());
  if (!found) return std::optional<Trace>();
  return std::optional<Trace>(read_trace(select));
}

Status RunStore::add_verdict(const Verdict& verdict) {
  const std::scoped_lock lock(state_->mutex);
  NF_CHECK(state_->run_id != 0) << "the run is open for reading only";
  NF_TRY(Statement insert,
         state_->database.prepare(
             "INSERT INTO verdicts (run_id, trace_id, verdict, family, stage, correct, speedup, device, "
             "sandboxed, record_json, started_ms, finished_ms) "
             "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"));
  insert.bind(1, state_->run_id).bind(2, verdict.trace_id);
  insert.bind(3, std::string_view(verdict.verdict)).bind(4, std::string_view(verdict.family));
  insert.bind(5, std::string_view(verdict.stage)).bind(6, int64_t{verdict.correct});
  insert.bind(7, verdict.speedup).bind(8, std::string_view(verdict.device));
  insert.bind(9, int64_t{verdict.sandboxed}).bind(10, std::string_view(verdict.record_json));
  insert.bind(11, verdict.started_ms).bind(12, verdict.finished_ms);
  return insert.run();
}

Result<std::optional<Verdict>> RunStore::newest_verdict(int64_t trace_id) const {
  const std::scoped_lock lock(state_->mutex);
  NF_TRY(Statement select,
         state_->database.prepare(std::string("SELECT ") + kVerdictColumns +
                                  " FROM verdicts WHERE trace_id = ?1 ORDER BY id DESC LIMIT 1"));
  select.bind(1, trace_id);
  NF_TRY(const bool found, select.step());
  if (!found) return std::optional<Verdict>();
  return std::optional<Verdict>(read_verdict(select, 0));
}

Result<std::vector<int64_t>> RunStore::unverified_traces(const std::string& device) const {
  const std::scoped_lock lock(state_->mutex);
  NF_TRY(Statement select,
         state_->database.prepare("SELECT id FROM traces WHERE NOT EXISTS (SELECT 1 FROM verdicts WHERE "
                                  "trace_id = traces.id AND device = ?1 AND verdict <> 'not_verified') "
                                  "ORDER BY problem_id, sample_idx, attempt_idx"));
  select.bind(1, std::string_view(device));
  std::vector<int64_t> ids;
  while (true) {
    NF_TRY(const bool row, select.step());
    if (!row) return ids;
    ids.push_back(select.column_int64(0));
  }
}

Result<Summary> RunStore::summary() const {
  const std::scoped_lock lock(state_->mutex);
  Summary summary;
  constexpr const char* kNewest =
      "(SELECT trace_id, verdict, correct, MAX(id) FROM verdicts GROUP BY trace_id)";
  NF_TRY(Statement counts,
         state_->database.prepare(
             std::string("SELECT (SELECT COUNT(*) FROM problems), COUNT(*), COUNT(newest.trace_id), "
                         "COALESCE(SUM(newest.correct), 0), "
                         "COUNT(DISTINCT CASE WHEN newest.correct THEN problem_id END), "
                         "COALESCE(SUM(num_prompt_tokens), 0), COALESCE(SUM(num_completion_tokens), 0) "
                         "FROM traces LEFT JOIN ") +
             kNewest + " AS newest ON newest.trace_id = traces.id"));
  NF_RETURN_IF_ERROR(counts.step());
  summary.num_problems = counts.column_int64(0);
  summary.num_traces = counts.column_int64(1);
  summary.num_verified = counts.column_int64(2);
  summary.num_correct = counts.column_int64(3);
  summary.num_problems_solved = counts.column_int64(4);
  summary.num_prompt_tokens = counts.column_int64(5);
  summary.num_completion_tokens = counts.column_int64(6);
  NF_TRY(Statement histogram,
         state_->database.prepare(std::string("SELECT verdict, COUNT(*) FROM ") + kNewest +
                                  " GROUP BY verdict ORDER BY COUNT(*) DESC, verdict"));
  while (true) {
    NF_TRY(const bool row, histogram.step());
    if (!row) return summary;
    summary.verdicts.emplace_back(histogram.column_text(0), histogram.column_int64(1));
  }
}

Result<VerdictCounts> RunStore::verdict_counts() const {
  const std::scoped_lock lock(state_->mutex);
  NF_TRY(Statement counts,
         state_->database.prepare("SELECT COUNT(*), COALESCE(SUM(correct), 0) FROM verdicts WHERE id IN "
                                  "(SELECT MAX(id) FROM verdicts GROUP BY trace_id)"));
  NF_RETURN_IF_ERROR(counts.step());
  return VerdictCounts{counts.column_int64(0), counts.column_int64(1)};
}

}  // namespace nemoforge::store
