#include "cli/standard_input.h"

#include <iostream>

namespace nemoforge::cli {

Result<std::string> read_standard_input() {
  constexpr size_t kMaxBytes = size_t{1} << 30;
  std::string text;
  char buffer[1 << 16];
  while (std::cin.read(buffer, sizeof(buffer)), std::cin.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(std::cin.gcount()));
    if (text.size() > kMaxBytes) return error(ErrorCode::kInvalidData, "standard input is larger than 1 GiB");
  }
  if (std::cin.bad()) return error(ErrorCode::kIo, "cannot read standard input");
  return text;
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
