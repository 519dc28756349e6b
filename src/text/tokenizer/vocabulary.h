// Tokens by id and by spelling.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace nemoforge::text {

class Vocabulary {
 public:
  // The largest vocabularies in use have a quarter of a million tokens.
  static constexpr int32_t kMaxSize = 1 << 21;

  struct Entry {
    std::string spelling;  // as in tokenizer.json
    std::string bytes;     // what it decodes to
    bool known = false;    // ids need not be contiguous
    bool spells_bytes = false;
    bool added = false;
    bool special = false;
  };

  Vocabulary();
  ~Vocabulary();
  Vocabulary(Vocabulary&&) noexcept;
  Vocabulary& operator=(Vocabulary&&) noexcept;

  void reserve(size_t num_tokens);
  // kInvalidData where the id is out of range or taken, or the spelling is.
  [[nodiscard]] Status add(std::string spelling, int64_t id);
  // The token `id`, which is known, is an added token.
  void mark_added(int32_t id, bool special);

  [[nodiscard]] std::optional<int32_t> find(std::string_view spelling) const;
  // nullptr for an id that is no token's.
  [[nodiscard]] const Entry* entry(int64_t id) const;
  // One more than the largest id.
  [[nodiscard]] int32_t size() const { return static_cast<int32_t>(entries_.size()); }
  [[nodiscard]] int32_t num_tokens() const { return num_tokens_; }

 private:
  struct Ids;

  std::vector<Entry> entries_;
  std::unique_ptr<Ids> ids_;
  int32_t num_tokens_ = 0;
};

}  // namespace nemoforge::text
