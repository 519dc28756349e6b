#include "store/sqlite.h"

#include <utility>

#include <sqlite3.h>

#include "base/check.h"

namespace nemoforge::store {
namespace {

constexpr int kBusyTimeoutMs = 30'000;

tl::unexpected<Error> sqlite_error(int code, const char* message, const char* file) {
  const std::string where = file != nullptr && *file != '\0' ? file : "the database";
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return error(ErrorCode::kUnavailable, where + " is locked by another process: " + message,
                   "wait for the other process to end");
    case SQLITE_FULL:
      return error(ErrorCode::kResourceExhausted, where + ": the disk is full", "free some space");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return error(ErrorCode::kInvalidData, where + " is not a readable SQLite database: " + message);
    case SQLITE_CANTOPEN:
      return error(ErrorCode::kNotFound, where + " cannot be opened: " + message);
    case SQLITE_CONSTRAINT:
      return error(ErrorCode::kInvalidArgument, where + ": " + message);
    default:
      return error(ErrorCode::kIo, where + ": " + message);
  }
}

tl::unexpected<Error> connection_error(int code, sqlite3* handle) {
  return sqlite_error(code, sqlite3_errmsg(handle), sqlite3_db_filename(handle, "main"));
}

}  // namespace

Statement::Statement(Statement&& other) noexcept
    : statement_(std::exchange(other.statement_, nullptr)), bind_error_(other.bind_error_) {}

Statement::~Statement() {
  sqlite3_finalize(statement_);
}

void Statement::note(int code) {
  if (code != SQLITE_OK) bind_error_ = code;
}

Statement& Statement::bind(int index, int64_t value) {
  note(sqlite3_bind_int64(statement_, index, value));
  return *this;
}

Statement& Statement::bind(int index, double value) {
  note(sqlite3_bind_double(statement_, index, value));
  return *this;
}

Statement& Statement::bind(int index, std::string_view text) {
  note(sqlite3_bind_text64(statement_, index, text.data() == nullptr ? "" : text.data(), text.size(),
                           SQLITE_TRANSIENT, SQLITE_UTF8));
  return *this;
}

Statement& Statement::bind_blob(int index, std::span<const std::byte> bytes) {
  note(bytes.empty() ? sqlite3_bind_zeroblob(statement_, index, 0)
                     : sqlite3_bind_blob64(statement_, index, bytes.data(), bytes.size(), SQLITE_TRANSIENT));
  return *this;
}

Statement& Statement::bind_null(int index) {
  note(sqlite3_bind_null(statement_, index));
  return *this;
}

Statement& Statement::bind(int index, std::optional<double> value) {
  return value ? bind(index, *value) : bind_null(index);
}

Result<bool> Statement::step() {
  sqlite3* handle = sqlite3_db_handle(statement_);
  if (bind_error_ != SQLITE_OK) return sqlite_error(bind_error_, sqlite3_errstr(bind_error_), nullptr);
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  const auto failure = connection_error(code, handle);
  sqlite3_reset(statement_);
  return failure;
}

Status Statement::run() {
  NF_TRY(const bool row, step());
  NF_CHECK(!row) << "run() on a statement that returns rows";
  return {};
}

void Statement::reset() {
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
  bind_error_ = SQLITE_OK;
}

int64_t Statement::column_int64(int index) const {
  return sqlite3_column_int64(statement_, index);
}

double Statement::column_double(int index) const {
  return sqlite3_column_double(statement_, index);
}

std::optional<double> Statement::column_optional_double(int index) const {
  if (sqlite3_column_type(statement_, index) == SQLITE_NULL) return std::nullopt;
  return column_double(index);
}

std::string Statement::column_text(int index) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, index));
  if (text == nullptr) return {};
  return {text, static_cast<size_t>(sqlite3_column_bytes(statement_, index))};
}

std::span<const std::byte> Statement::column_blob(int index) const {
  const auto* bytes = static_cast<const std::byte*>(sqlite3_column_blob(statement_, index));
  return {bytes, bytes == nullptr ? 0 : static_cast<size_t>(sqlite3_column_bytes(statement_, index))};
}

Database::Database(Database&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

Database& Database::operator=(Database&& other) noexcept {
  if (this != &other) {
    sqlite3_close_v2(handle_);
    handle_ = std::exchange(other.handle_, nullptr);
  }
  return *this;
}

// close_v2: statements that outlive the connection by a destructor's order keep it alive instead of leaking.
Database::~Database() {
  sqlite3_close_v2(handle_);
}

Result<Database> Database::open(const std::string& path, bool read_only) {
  Database database;
  const int flags = read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  const int code = sqlite3_open_v2(path.c_str(), &database.handle_, flags, nullptr);
  if (code != SQLITE_OK) {
    const char* message =
        database.handle_ != nullptr ? sqlite3_errmsg(database.handle_) : sqlite3_errstr(code);
    return sqlite_error(code, message, path.c_str());
  }
  sqlite3_busy_timeout(database.handle_, kBusyTimeoutMs);
  return database;
}

Status Database::execute(const std::string& sql) {
  const int code = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return connection_error(code, handle_);
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(handle_, sql.data(), static_cast<int>(sql.size()), &statement, nullptr);
  if (code != SQLITE_OK) return connection_error(code, handle_);
  return Statement(statement);
}

int64_t Database::last_insert_rowid() const {
  return sqlite3_last_insert_rowid(handle_);
}

}  // namespace nemoforge::store
