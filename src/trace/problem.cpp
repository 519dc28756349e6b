#include "trace/problem.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>
#include <tuple>

#include "base/sha256.h"
#include "io/file.h"
#include "text/utf8.h"
#include "trace/id_pattern.h"

namespace nemoforge::trace {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxSourceBytes = int64_t{1} << 20;

// The number that `text` wholly is.
std::optional<int64_t> number_of(std::string_view text) {
  int64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

// N of a folder named levelN.
std::optional<int64_t> level_of_folder(const fs::path& folder) {
  const std::string name = folder.filename().string();
  if (!name.starts_with("level")) return std::nullopt;
  return number_of(std::string_view(name).substr(5));
}

bool in_ranges(const NumberRanges& ranges, int64_t value) {
  return ranges.empty() || std::any_of(ranges.begin(), ranges.end(), [value](const auto& range) {
           return range.first <= value && value <= range.second;
         });
}

// Whether a line begins with `text` and no longer name follows.
bool has_line_with(std::string_view source, std::string_view text) {
  for (size_t pos = 0; (pos = source.find(text, pos)) != std::string_view::npos; ++pos) {
    const size_t end = pos + text.size();
    const bool at_line_start = pos == 0 || source[pos - 1] == '\n';
    const bool name_ends = end < source.size() && (source[end] == '(' || source[end] == ':' ||
                                                   source[end] == ' ' || source[end] == '[');
    if (at_line_start && name_ends) return true;
  }
  return false;
}

// What PyTorch will need to find; whether it works is seen when it runs.
Status check_source(const std::string& path, std::string_view source) {
  if (!text::is_valid_utf8(source) || source.find('\0') != std::string_view::npos) {
    return error(ErrorCode::kInvalidData, path + ": is not a UTF-8 text");
  }
  for (const char* needed : {"class Model", "def get_inputs", "def get_init_inputs"}) {
    if (has_line_with(source, needed)) continue;
    return error(ErrorCode::kInvalidData, path + ": has no `" + needed + "` at the beginning of a line",
                 "a problem is a Python file with a class Model and the functions get_inputs and "
                 "get_init_inputs");
  }
  return {};
}

Problem identify(const fs::path& path) {
  Problem problem;
  problem.path = path.string();
  problem.id = path.stem().string();
  problem.number = number_of(problem.id.substr(0, problem.id.find('_'))).value_or(0);
  if (const auto level = level_of_folder(fs::absolute(path).parent_path())) {
    problem.level = *level;
    problem.id = "level" + std::to_string(*level) + "_" + problem.id;
  }
  return problem;
}

std::vector<fs::path> python_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(folder, failure)) {
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() == ".py" && !name.starts_with("_")) files.push_back(entry.path());
  }
  return files;
}

std::vector<fs::path> candidate_files(const fs::path& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files = python_files(path);
  for (const fs::path& root : {path, path / "KernelBench"}) {
    std::error_code failure;
    for (const auto& entry : fs::directory_iterator(root, failure)) {
      if (!entry.is_directory() || !level_of_folder(entry.path())) continue;
      const std::vector<fs::path> of_level = python_files(entry.path());
      files.insert(files.end(), of_level.begin(), of_level.end());
    }
  }
  return files;
}

}  // namespace

Result<NumberRanges> parse_number_ranges(const std::string& text) {
  NumberRanges ranges;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const size_t dash = part.find('-');
    const auto first = number_of(std::string_view(part).substr(0, dash));
    const auto last = dash == std::string::npos ? first : number_of(std::string_view(part).substr(dash + 1));
    if (!first || !last || *first > *last) {
      return error(ErrorCode::kInvalidArgument,
                   "`" + part + "` in `" + text + "` is neither a number nor a range", "for example 1-20,33");
    }
    ranges.emplace_back(*first, *last);
    begin = end + 1;
  }
  return ranges;
}

Result<std::vector<Problem>> load_problems(const std::string& path, const ProblemFilter& filter) {
  if (!fs::exists(path)) return error(ErrorCode::kNotFound, path + ": there is no such file or folder");
  NF_TRY(const IdPattern pattern, IdPattern::compile(filter.id_pattern));
  const std::vector<fs::path> files = candidate_files(path);
  std::vector<Problem> problems;
  for (const fs::path& file : files) {
    Problem problem = identify(file);
    const bool wanted = in_ranges(filter.levels, problem.level) &&
                        in_ranges(filter.numbers, problem.number) && pattern.matches(problem.id);
    if (!wanted) continue;
    NF_TRY(problem.source, io::read_file(problem.path, kMaxSourceBytes));
    NF_RETURN_IF_ERROR(check_source(problem.path, problem.source));
    problem.content_hash = sha256_hex(problem.source);
    problems.push_back(std::move(problem));
  }
  if (problems.empty()) {
    return error(ErrorCode::kNotFound, files.empty()
                                           ? path + ": holds no Python files and no level folders"
                                           : path + ": none of its " + std::to_string(files.size()) +
                                                 " problems is wanted (levels, ids, filter)");
  }
  std::sort(problems.begin(), problems.end(), [](const Problem& a, const Problem& b) {
    return std::tie(a.level, a.number, a.id) < std::tie(b.level, b.number, b.id);
  });
  for (size_t i = 1; i < problems.size(); ++i) {
    if (problems[i].id != problems[i - 1].id) continue;
    return error(ErrorCode::kInvalidData,
                 problems[i - 1].path + " and " + problems[i].path + " are both problem " + problems[i].id);
  }
  return problems;
}

}  // namespace nemoforge::trace
