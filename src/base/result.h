// The error vocabulary of nemoforge: what can go wrong because of a user, a file, a network peer or a
// candidate kernel is a value (Result<T>); what can only go wrong because of a bug of ours is NF_CHECK
// (check.h).
#pragma once

#include <string>
#include <utility>

#include <tl/expected.hpp>

namespace nemoforge {

// Classes of expected errors. The server maps each to one HTTP status, the command line to an exit code.
enum class ErrorCode {
  kInvalidArgument,    // a flag, a request field, a config value: the caller must change it
  kInvalidData,        // a file's or peer's bytes are not what they claim to be
  kNotFound,           // a file, a model, an adapter that does not exist
  kUnsupported,        // understood, but nemoforge does not do it
  kResourceExhausted,  // out of memory, disk, slots, queue
  kUnavailable,        // cannot be had now; trying again may help
  kCancelled,          // the user or the client gave up
  kIo,                 // the operating system refused
};

// One clear sentence (what, where, expected against found) and, where there is one, the mend.
struct Error {
  ErrorCode code = ErrorCode::kInvalidArgument;
  std::string message;
  std::string hint;

  // "message" or "message (hint)".
  [[nodiscard]] std::string to_string() const { return hint.empty() ? message : message + " (" + hint + ")"; }
};

// [[nodiscard]] by being returned from [[nodiscard]] functions; the compiler's -Wunused-result guards the
// rest.
template <typename T>
using Result = tl::expected<T, Error>;

// Result<Nothing> is spelt Status: an action that succeeds or says why not.
using Status = tl::expected<void, Error>;

[[nodiscard]] inline tl::unexpected<Error> error(ErrorCode code, std::string message, std::string hint = {}) {
  return tl::unexpected<Error>(Error{code, std::move(message), std::move(hint)});
}

// The error of a failed Result, to be returned from a function with another value type.
template <typename T>
[[nodiscard]] tl::unexpected<Error> forward_error(T&& result) {
  return tl::unexpected<Error>(std::forward<T>(result).error());
}

}  // namespace nemoforge

// NOLINTBEGIN(bugprone-macro-parentheses): `lhs` is a declaration and `tmp` a name.
// Evaluates `expr` (a Result); returns its error from the enclosing function, else declares `lhs` with its
// value.
#define NF_CONCAT_INNER(a, b) a##b
#define NF_CONCAT(a, b) NF_CONCAT_INNER(a, b)
#define NF_TRY_IMPL(tmp, lhs, expr)                            \
  auto tmp = (expr);                                           \
  if (!tmp) return ::nemoforge::forward_error(std::move(tmp)); \
  lhs = std::move(*tmp)
// NOLINTEND(bugprone-macro-parentheses)
#define NF_TRY(lhs, expr) NF_TRY_IMPL(NF_CONCAT(nf_result_, __COUNTER__), lhs, expr)

// Evaluates `expr` (a Status); returns its error from the enclosing function.
#define NF_RETURN_IF_ERROR(expr)                                                                      \
  do {                                                                                                \
    if (auto nf_status = (expr); !nf_status) return ::nemoforge::forward_error(std::move(nf_status)); \
  } while (false)
