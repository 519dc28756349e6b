#include "cli/standard_input.h"

#include <cerrno>
#include <cstring>
#include <iostream>

#include <unistd.h>

namespace nemoforge::cli {

Result<std::string> read_standard_input() {
  constexpr size_t kMaxBytes = size_t{1} << 30;
  std::string text;
  char buffer[1 << 16];
  // Not through std::cin, which takes what cannot be read (a folder) for empty.
  for (;;) {
    const ssize_t count = ::read(STDIN_FILENO, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      return error(ErrorCode::kIo, std::string("cannot read standard input: ") + std::strerror(errno));
    if (count == 0) return text;
    text.append(buffer, static_cast<size_t>(count));
    if (text.size() > kMaxBytes) return error(ErrorCode::kInvalidData, "standard input is larger than 1 GiB");
  }
}

Status convert_lines(const std::function<Result<std::string>(std::string_view)>& convert) {
  int64_t line_number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    auto converted = convert(line);
    if (!converted) {
      return error(converted.error().code,
                   "standard input, line " + std::to_string(line_number) + ": " + converted.error().message,
                   converted.error().hint);
    }
    NF_RETURN_IF_ERROR(write_standard_output(*converted + '\n'));
  }
  if (std::cin.bad()) return error(ErrorCode::kIo, "cannot read standard input");
  return {};
}

Status write_standard_output(std::string_view text) {
  std::cout.write(text.data(), static_cast<std::streamsize>(text.size())).flush();
  if (!std::cout) return error(ErrorCode::kIo, "cannot write to standard output");
  return {};
}

}  // namespace nemoforge::cli
