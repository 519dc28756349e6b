#include "store/schema.h"

#include <array>
#include <string>

namespace nemoforge::store {
namespace {

// kMigrations[v] takes version v to v + 1. Published entries never change; a new schema is a new entry.
constexpr std::array<const char*, 1> kMigrations = {R"sql(
CREATE TABLE runs (
  id INTEGER PRIMARY KEY,
  command TEXT NOT NULL,
  nemoforge_version TEXT NOT NULL,
  config_json TEXT NOT NULL,
  started_ms INTEGER NOT NULL
);
CREATE TABLE problems (
  id TEXT PRIMARY KEY,
  source TEXT NOT NULL,
  source_hash TEXT NOT NULL,
  origin TEXT NOT NULL,
  overrides_json TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE traces (
  id INTEGER PRIMARY KEY,
  run_id INTEGER NOT NULL REFERENCES runs(id),
  problem_id TEXT NOT NULL REFERENCES problems(id),
  sample_idx INTEGER NOT NULL,
  attempt_idx INTEGER NOT NULL,
  messages_json TEXT NOT NULL,
  prompt TEXT NOT NULL,
  prompt_token_ids BLOB NOT NULL,
  completion_token_ids BLOB NOT NULL,
  completion_logprobs BLOB NOT NULL,
  template_hash TEXT NOT NULL,
  completion TEXT NOT NULL,
  reasoning TEXT NOT NULL,
  answer TEXT NOT NULL,
  code TEXT NOT NULL,
  num_prompt_tokens INTEGER NOT NULL,
  num_completion_tokens INTEGER NOT NULL,
  num_reasoning_tokens INTEGER NOT NULL,
  finish_reason TEXT NOT NULL,
  sampling_json TEXT NOT NULL,
  seed INTEGER NOT NULL,
  model TEXT NOT NULL,
  adapter TEXT NOT NULL,
  checkpoint_hash TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  started_ms INTEGER NOT NULL,
  finished_ms INTEGER NOT NULL,
  UNIQUE (problem_id, sample_idx, attempt_idx)
);
CREATE TABLE verdicts (
  id INTEGER PRIMARY KEY,
  run_id INTEGER NOT NULL REFERENCES runs(id),
  trace_id INTEGER NOT NULL REFERENCES traces(id),
  verdict TEXT NOT NULL,
  family TEXT NOT NULL,
  stage TEXT NOT NULL,
  correct INTEGER NOT NULL,
  speedup REAL,
  device TEXT NOT NULL,
  sandboxed INTEGER NOT NULL,
  record_json TEXT NOT NULL,
  started_ms INTEGER NOT NULL,
  finished_ms INTEGER NOT NULL
);
CREATE INDEX verdicts_of_trace ON verdicts (trace_id, id);
)sql"};

constexpr int64_t kSchemaVersion = kMigrations.size();

Result<int64_t> schema_version(Database& database) {
  NF_TRY(Statement statement, database.prepare("PRAGMA user_version"));
  NF_RETURN_IF_ERROR(statement.step());
  return statement.column_int64(0);
}

tl::unexpected<Error> wrong_version(int64_t version) {
  return error(ErrorCode::kUnsupported,
               "the run's database has schema version " + std::to_string(version) +
                   ", this nemoforge reads and writes version " + std::to_string(kSchemaVersion),
               version > kSchemaVersion ? "use the newer nemoforge that wrote it"
                                        : "open it once with a command that writes, such as nemoforge trace");
}

}  // namespace

Status migrate_schema(Database& database) {
  while (true) {
    // IMMEDIATE: two processes that open a new run at once migrate one after the other, and the second sees
    // the work of the first.
    NF_RETURN_IF_ERROR(database.execute("BEGIN IMMEDIATE"));
    const auto version = schema_version(database);
    Status status;
    bool done = false;
    if (!version) {
      status = forward_error(version);
    } else if (*version > kSchemaVersion || *version < 0) {
      status = wrong_version(*version);
    } else if (*version == kSchemaVersion) {
      done = true;
    } else {
      status = database.execute(std::string(kMigrations[static_cast<size_t>(*version)]) +
                                "PRAGMA user_version = " + std::to_string(*version + 1));
    }
    if (!status) {
      // The first error is the one worth reporting.
      (void)database.execute("ROLLBACK");
      return status;
    }
    NF_RETURN_IF_ERROR(database.execute("COMMIT"));
    if (done) return {};
  }
}

Status check_schema(Database& database) {
  NF_TRY(const int64_t version, schema_version(database));
  if (version != kSchemaVersion) return wrong_version(version);
  return {};
}

}  // namespace nemoforge::store
