// Finding the candidate kernel in a model's answer.
#pragma once

#include <string>
#include <string_view>

namespace nemoforge::trace {

// The last Python block of `answer` (what follows </think>), its lines ended by \n; empty where there is
// none. A block is fenced by three or more backticks or tildes and labelled python, py, python3 or triton;
// only where no block is labelled so, the last one without a label counts. As in CommonMark a fence closes
// only a fence of the same character that is no longer than itself and not indented deeper, so that fences
// inside a docstring stay code. Models write what Markdown does not allow, and this is taken too: a labelled
// fence after text on the same line, a labelled fence where the block before was never closed, a last block
// that the end of the answer closes.
[[nodiscard]] std::string extract_python_code(std::string_view answer);

}  // namespace nemoforge::trace
