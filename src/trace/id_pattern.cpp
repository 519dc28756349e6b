#include "trace/id_pattern.h"

#include <array>
#include <utility>

#include <regex.h>

namespace nemoforge::trace {

struct IdPattern::Compiled {
  regex_t regex{};
  bool is_valid = false;

  Compiled() = default;
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;
  ~Compiled() {
    if (is_valid) ::regfree(&regex);
  }
};

Result<IdPattern> IdPattern::compile(const std::string& expression) {
  auto compiled = std::make_shared<Compiled>();
  const int code = ::regcomp(&compiled->regex, expression.c_str(), REG_EXTENDED | REG_NOSUB);
  if (code != 0) {
    std::array<char, 256> reason{};
    ::regerror(code, &compiled->regex, reason.data(), reason.size());
    return error(ErrorCode::kInvalidArgument,
                 "`" + expression + "` is not a regular expression: " + reason.data());
  }
  compiled->is_valid = true;
  return IdPattern(std::move(compiled));
}

bool IdPattern::matches(const std::string& problem_id) const {
  return ::regexec(&compiled_->regex, problem_id.c_str(), 0, nullptr, 0) == 0;
}

}  // namespace nemoforge::trace
