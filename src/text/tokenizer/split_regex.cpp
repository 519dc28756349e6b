#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/tokenizer/split_regex.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include <pcre2.h>

#include "base/check.h"
#include "base/log.h"
#include "text/tokenizer/newer_code_points.h"
#include "text/tokenizer/split_pattern.h"
#include "text/utf8.h"

namespace nemoforge::text {
namespace {

constexpr size_t kMaxPatternBytes = 16384;  // the longest in use is under 1 KiB
constexpr std::uint32_t kMinMatchLimit = 10'000'000;
constexpr std::uint32_t kHeapLimitKib = 262'144;

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 160> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

template <auto kFree>
struct FreeWith {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using CompileContext = std::unique_ptr<pcre2_compile_context, FreeWith<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, FreeWith<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, FreeWith<pcre2_match_data_free>>;

// One pass over one text with one compiled pattern.
class Search {
 public:
  Search(const pcre2_code* code, bool has_jit, std::string_view text)
      : code_(code),
        has_jit_(has_jit),
        text_(text),
        data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)) {
    NF_CHECK(data_ && context_) << "out of memory";
    // A greedy run over the whole text that must give back all of it takes a step for each byte.
    const size_t limit = std::clamp<size_t>(text.size() * 16, kMinMatchLimit, UINT32_MAX);
    pcre2_set_match_limit(context_.get(), static_cast<std::uint32_t>(limit));
    pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  }

  // The leftmost match at or after `from`.
  std::optional<Span> next(size_t from) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (has_jit_) {
      rc = pcre2_jit_match(code_, subject, text_.size(), from, 0, data_.get(), context_.get());
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
      rc = pcre2_match(code_, subject, text_.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data_.get(),
                       context_.get());
    }
    if (rc == PCRE2_ERROR_NOMATCH) return {};
    if (rc < 0) {
      spdlog::warn(
          "tokenizer: the pre-tokenizer's regex gave up at byte {} of {} ({}); the rest is not split", from,
          text_.size(), message_of(rc));
      return {};
    }
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data_.get());
    return Span{offsets[0], offsets[1]};
  }

 private:
  const pcre2_code* code_;
  bool has_jit_;
  std::string_view text_;
  MatchData data_;
  MatchContext context_;
};

}  // namespace

void SplitRegex::CodeDeleter::operator()(pcre2_real_code_8* code) const {
  pcre2_code_free(code);
}

Result<SplitRegex> SplitRegex::from_pattern(std::string_view pattern) {
  NF_TRY(const std::string translated, translate_split_pattern(pattern));
  return compile(translated, pattern);
}

Result<SplitRegex> SplitRegex::from_literal(std::string_view text) {
  if (text.empty()) return error(ErrorCode::kUnsupported, "an empty split string is not supported");
  return compile(literal_split_pattern(text), text);
}

Result<SplitRegex> SplitRegex::compile(const std::string& pcre2_pattern, std::string_view source) {
  if (source.size() > kMaxPatternBytes) {
    return error(ErrorCode::kUnsupported, "regex of " + std::to_string(source.size()) + " bytes, at most " +
                                              std::to_string(kMaxPatternBytes) + " are supported");
  }
  if (!is_valid_utf8(source)) return error(ErrorCode::kInvalidData, "regex is not UTF-8");
  if (with_older_code_points(source)) {
    return error(ErrorCode::kUnsupported,
                 "regex \"" + std::string(source) + "\" names a code point newer than Unicode 14");
  }
  const CompileContext context(pcre2_compile_context_create(nullptr));
  NF_CHECK(context) << "out of memory";
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code_number = 0;
  PCRE2_SIZE offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pcre2_pattern.data()), pcre2_pattern.size(),
                          PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code_number, &offset, context.get()));
  if (!code) {
    return error(ErrorCode::kUnsupported, "regex \"" + std::string(source) + "\" cannot be compiled: " +
                                              message_of(code_number) + " at byte " + std::to_string(offset));
  }
  const bool has_jit = pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE) == 0;
  return SplitRegex(std::move(code), has_jit);
}

void SplitRegex::find_all(std::string_view text, std::vector<Span>& matches) const {
  const std::optional<std::string> older = with_older_code_points(text);
  if (older) text = *older;
  Search search(code_.get(), has_jit_, text);
  std::optional<size_t> last_end;
  for (size_t from = 0; from <= text.size();) {
    const std::optional<Span> match = search.next(from);
    if (!match) return;
    if (match->begin == match->end && last_end == match->end) {
      if (from == text.size()) return;
      from += static_cast<size_t>(decode_code_point(text, from).num_bytes);
      continue;
    }
    matches.push_back(*match);
    last_end = match->end;
    from = match->end;
  }
}

}  // namespace nemoforge::text
