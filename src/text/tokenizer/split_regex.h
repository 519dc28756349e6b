// The regular expression of a Split pre-tokenizer, compiled once and used by any number of threads.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

struct pcre2_real_code_8;

namespace nemoforge::text {

// Bytes [begin, end) of a text.
struct Span {
  size_t begin;
  size_t end;
  bool operator==(const Span&) const = default;
};

class SplitRegex {
 public:
  // From a pattern in Oniguruma's syntax; kUnsupported where we cannot give it Oniguruma's meaning.
  [[nodiscard]] static Result<SplitRegex> from_pattern(std::string_view pattern);
  // Matches exactly `text`, which must not be empty.
  [[nodiscard]] static Result<SplitRegex> from_literal(std::string_view text);

  // Appends to `matches` every match in `text` (well-formed UTF-8, seen as a whole: anchors and look-arounds
  // stop at its ends), left to right and not overlapping; an empty match directly after a match is none, as
  // in Oniguruma's Rust binding. A search that exceeds its step or memory limit, which only a pathological
  // pattern can, is logged and ends the list: the rest of the text is then one unmatched piece, which any
  // byte-level vocabulary can still encode.
  void find_all(std::string_view text, std::vector<Span>& matches) const;

 private:
  struct CodeDeleter {
    void operator()(pcre2_real_code_8* code) const;
  };
  using Code = std::unique_ptr<pcre2_real_code_8, CodeDeleter>;

  SplitRegex(Code code, bool has_jit) : code_(std::move(code)), has_jit_(has_jit) {}
  [[nodiscard]] static Result<SplitRegex> compile(const std::string& pcre2_pattern, std::string_view source);

  Code code_;
  bool has_jit_;
};

}  // namespace nemoforge::text
