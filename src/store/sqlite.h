// A thin, typed layer over SQLite's C interface: connections and prepared statements that report errors as
// Status.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace nemoforge::store {

// One prepared statement of one connection; must not outlive it. Parameters are numbered from 1, columns
// from 0.
class Statement {
 public:
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&&) = delete;
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement();

  // Values are copied. A failed bind (wrong index, out of memory) shows up in the next step().
  Statement& bind(int index, int64_t value);
  Statement& bind(int index, double value);
  Statement& bind(int index, std::string_view text);
  Statement& bind_blob(int index, std::span<const std::byte> bytes);
  Statement& bind_null(int index);
  Statement& bind(int index, std::optional<double> value);

  // True: a row is there to be read. False: the statement is done.
  [[nodiscard]] Result<bool> step();
  // Runs a statement that returns no row.
  [[nodiscard]] Status run();
  // Ready to be bound and run again.
  void reset();

  [[nodiscard]] int64_t column_int64(int index) const;
  [[nodiscard]] double column_double(int index) const;
  [[nodiscard]] std::optional<double> column_optional_double(int index) const;
  [[nodiscard]] std::string column_text(int index) const;
  // Valid until the next step, reset or destruction.
  [[nodiscard]] std::span<const std::byte> column_blob(int index) const;

 private:
  friend class Database;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  void note(int code);
  sqlite3_stmt* statement_ = nullptr;
  int bind_error_ = 0;
};

// One connection. Not for use by two threads at once.
class Database {
 public:
  Database() = default;
  Database(Database&& other) noexcept;
  Database& operator=(Database&& other) noexcept;
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database();

  // Opens (and, unless read_only, creates) the file; waits up to 30 s for another process's lock.
  [[nodiscard]] static Result<Database> open(const std::string& path, bool read_only);

  // Runs SQL without parameters; several statements may follow each other.
  [[nodiscard]] Status execute(const std::string& sql);
  [[nodiscard]] Result<Statement> prepare(std::string_view sql);
  [[nodiscard]] int64_t last_insert_rowid() const;

 private:
  sqlite3* handle_ = nullptr;
};

}  // namespace nemoforge::store
