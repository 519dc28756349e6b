// In which scripts a text is written.
#pragma once

#include <string_view>

namespace nemoforge::dataset {

// The share of the letters of `text` that are neither Latin nor Greek (which mathematics uses in any
// language): Chinese, Cyrillic, Arabic, ... 0 where there are no letters.
[[nodiscard]] double non_latin_share(std::string_view text);

}  // namespace nemoforge::dataset
