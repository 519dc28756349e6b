#include "trace/extract.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

namespace nemoforge::trace {
namespace {

constexpr std::string_view kSpace = " \t";
// A fence may stand this much deeper than the one it closes (CommonMark's rule for the document's own
// margin).
constexpr size_t kMaxExtraIndent = 3;

// A run of three or more backticks or tildes and what stands round it on its line.
struct Fence {
  char character = '`';
  size_t length = 0;
  size_t indent = 0;        // columns of white space before it, where nothing else is
  bool starts_line = true;  // nothing but white space before it
  std::string_view label;   // the rest of the line, trimmed
};

struct Block {
  Fence opening;
  std::string code;
};

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

bool is_python_label(std::string_view label) {
  // Only the first word of an info string is the language: "python title=kernel.py", "{.python}" is not.
  std::string word(label.substr(0, label.find_first_of(" \t,:{")));
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); });
  constexpr std::array<std::string_view, 4> kLabels = {"python", "py", "python3", "triton"};
  return std::find(kLabels.begin(), kLabels.end(), word) != kLabels.end();
}

size_t indent_of(std::string_view line) {
  return std::min(line.find_first_not_of(kSpace), line.size());
}

// The fence that `line` is, or that ends it after other text.
std::optional<Fence> find_fence(std::string_view line) {
  const size_t indent = indent_of(line);
  for (size_t pos = indent; pos < line.size();) {
    const char character = line[pos];
    if (character != '`' && character != '~') {
      pos = std::min(line.find_first_of("`~", pos), line.size());
      continue;
    }
    const size_t end = std::min(line.find_first_not_of(character, pos), line.size());
    const std::string_view label = trimmed(line.substr(end));
    // A backtick after a run of backticks makes it code within a line.
    const bool inline_code = character == '`' && label.find('`') != std::string_view::npos;
    if (end - pos >= 3 && !inline_code) {
      return Fence{character, end - pos, pos == indent ? indent : 0, pos == indent, label};
    }
    pos = end;
  }
  return std::nullopt;
}

bool opens(const Fence& fence) {
  return fence.starts_line || is_python_label(fence.label);
}

bool closes(const Fence& fence, const Fence& opening) {
  return fence.starts_line && fence.label.empty() && fence.character == opening.character &&
         fence.length >= opening.length && fence.indent <= opening.indent + kMaxExtraIndent;
}

// Whether a fence inside an open block begins another one: the model forgot to close the first.
bool reopens(const Fence& fence, const Fence& opening) {
  return fence.starts_line && is_python_label(fence.label) && fence.character == opening.character &&
         fence.length <= opening.length && fence.indent <= opening.indent;
}

// The line without as much white space as the opening fence had before it (a block in a list item).
std::string_view without_indent(std::string_view line, size_t indent) {
  return line.substr(std::min(indent, indent_of(line)));
}

// Keeps the last block of each sort.
class LastBlocks {
 public:
  void keep(Block&& block) {
    if (is_python_label(block.opening.label)) {
      labelled_ = std::move(block.code);
    } else if (block.opening.label.empty()) {
      unlabelled_ = std::move(block.code);
    }
  }
  std::string take() { return labelled_ ? std::move(*labelled_) : std::move(unlabelled_); }

 private:
  std::optional<std::string> labelled_;
  std::string unlabelled_;
};

}  // namespace

std::string extract_python_code(std::string_view answer) {
  LastBlocks blocks;
  std::optional<Block> open;
  for (size_t begin = 0; begin < answer.size();) {
    const size_t end = std::min(answer.find('\n', begin), answer.size());
    std::string_view line = answer.substr(begin, end - begin);
    begin = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    const std::optional<Fence> fence = find_fence(line);
    if (!open) {
      if (fence && opens(*fence)) open = Block{*fence, {}};
    } else if (fence && closes(*fence, open->opening)) {
      blocks.keep(std::move(*open));
      open.reset();
    } else if (fence && reopens(*fence, open->opening)) {
      blocks.keep(std::move(*open));
      open = Block{*fence, {}};
    } else {
      open->code.append(without_indent(line, open->opening.indent)).append("\n");
    }
  }
  if (open) blocks.keep(std::move(*open));
  return blocks.take();
}

}  // namespace nemoforge::trace
