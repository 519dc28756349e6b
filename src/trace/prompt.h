// From a problem to the request that a model answers.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace nemoforge::trace {

// The text of the user's message, with a place for the problem. A template is a file: where it contains
// `{{problem}}`, the problem's source stands there; without it the file is an instruction, which an empty
// line and the source in a ```python block follow.
class PromptTemplate {
 public:
  // The instruction that asks for ModelNew and nothing else.
  [[nodiscard]] static PromptTemplate zero_shot();
  // kInvalidData for an empty file or one that is not UTF-8.
  [[nodiscard]] static Result<PromptTemplate> read(const std::string& path);

  // The message for a problem; white space at the end of its source is not part of it. Where the source
  // contains a fence of backticks, the block round it gets a longer one.
  [[nodiscard]] std::string render(std::string_view problem_source) const;

  // SHA-256 of the template's text.
  [[nodiscard]] const std::string& hash() const { return hash_; }

 private:
  explicit PromptTemplate(std::string text);
  std::string text_;
  std::string hash_;
};

}  // namespace nemoforge::trace
