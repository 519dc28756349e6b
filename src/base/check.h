// Invariants: conditions that no request, file or candidate can make false. A failure is a bug of nemoforge.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace nemoforge {

// Thrown by NF_CHECK; caught by the engine's step (which fails the batch) and by main.
class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

namespace internal {

// Collects the streamed values of a failed check and throws when the full expression ends.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition) {
    message_ << file << ':' << line << ": check failed: " << condition << ' ';
  }
  CheckFailure(const CheckFailure&) = delete;
  CheckFailure& operator=(const CheckFailure&) = delete;
  [[noreturn]] ~CheckFailure() noexcept(false) { throw InternalError(message_.str()); }

  template <typename T>
  CheckFailure& operator<<(const T& value) {
    message_ << value;
    return *this;
  }

 private:
  std::ostringstream message_;
};

}  // namespace internal
}  // namespace nemoforge

// NF_CHECK(a == b) << "values"; throws InternalError with file, line and the streamed text.
#define NF_CHECK(condition) \
  if (condition)            \
    [[likely]];             \
  else                      \
    ::nemoforge::internal::CheckFailure(__FILE__, __LINE__, #condition)
