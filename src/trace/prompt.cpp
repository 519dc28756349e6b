#include "trace/prompt.h"

#include <algorithm>
#include <utility>

#include "base/sha256.h"
#include "io/file.h"
#include "text/utf8.h"

namespace nemoforge::trace {
namespace {

constexpr std::string_view kProblemMark = "{{problem}}";
constexpr std::string_view kZeroShot =
    "Optimize the architecture named Model with Triton kernels. Name the new architecture ModelNew. Output "
    "only "
    "the new code in a code block.";
constexpr int64_t kMaxTemplateBytes = int64_t{1} << 20;

std::string_view without_trailing_space(std::string_view text) {
  const size_t last = text.find_last_not_of(" \t\r\n");
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

// A fence that no run of backticks in `source` can close.
std::string fence_for(std::string_view source) {
  size_t longest = 0;
  size_t run = 0;
  for (const char c : source) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return std::string(std::max(longest + 1, size_t{3}), '`');
}

}  // namespace

PromptTemplate::PromptTemplate(std::string text) : text_(std::move(text)), hash_(sha256_hex(text_)) {}

PromptTemplate PromptTemplate::zero_shot() {
  return PromptTemplate(std::string(kZeroShot));
}

Result<PromptTemplate> PromptTemplate::read(const std::string& path) {
  NF_TRY(const std::string text, io::read_file(path, kMaxTemplateBytes));
  if (!text::is_valid_utf8(text)) return error(ErrorCode::kInvalidData, path + ": is not a UTF-8 text");
  const std::string_view trimmed = without_trailing_space(text);
  if (trimmed.empty()) return error(ErrorCode::kInvalidData, path + ": the prompt template is empty");
  return PromptTemplate(std::string(trimmed));
}

std::string PromptTemplate::render(std::string_view problem_source) const {
  const std::string_view source = without_trailing_space(problem_source);
  std::string message;
  if (text_.find(kProblemMark) == std::string::npos) {
    const std::string fence = fence_for(source);
    message = text_ + "\n\n" + fence + "python\n";
    message.append(source).append("\n").append(fence);
    return message;
  }
  for (size_t begin = 0; begin <= text_.size();) {
    const size_t mark = text_.find(kProblemMark, begin);
    message.append(text_, begin, mark - begin);
    if (mark == std::string::npos) break;
    message.append(source);
    begin = mark + kProblemMark.size();
  }
  return message;
}

}  // namespace nemoforge::trace
