#include "text/tokenizer/vocabulary.h"

#include <functional>
#include <unordered_map>

#include "base/check.h"
#include "text/tokenizer/byte_alphabet.h"

namespace nemoforge::text {

struct Vocabulary::Ids {
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> by_spelling;
};

Vocabulary::Vocabulary() : ids_(std::make_unique<Ids>()) {}
Vocabulary::~Vocabulary() = default;
Vocabulary::Vocabulary(Vocabulary&&) noexcept = default;
Vocabulary& Vocabulary::operator=(Vocabulary&&) noexcept = default;

void Vocabulary::reserve(size_t num_tokens) {
  entries_.reserve(num_tokens);
  ids_->by_spelling.reserve(num_tokens);
}

Status Vocabulary::add(std::string spelling, int64_t id) {
  if (id < 0 || id >= kMaxSize) {
    return error(ErrorCode::kInvalidData, "token \"" + spelling + "\" has id " + std::to_string(id) +
                                              ", expected 0 to " + std::to_string(kMaxSize - 1));
  }
  const auto index = static_cast<size_t>(id);
  if (index >= entries_.size()) entries_.resize(index + 1);
  Entry& entry = entries_[index];
  if (entry.known) {
    return error(ErrorCode::kInvalidData, "tokens \"" + entry.spelling + "\" and \"" + spelling +
                                              "\" both have id " + std::to_string(id));
  }
  if (!ids_->by_spelling.emplace(spelling, static_cast<int32_t>(id)).second) {
    return error(ErrorCode::kInvalidData, "token \"" + spelling + "\" is there twice");
  }
  std::optional<std::string> bytes = bytes_of_spelling(spelling);
  entry.known = true;
  entry.spells_bytes = bytes.has_value();
  entry.bytes = bytes ? std::move(*bytes) : spelling;
  entry.spelling = std::move(spelling);
  ++num_tokens_;
  return {};
}

void Vocabulary::mark_added(int32_t id, bool special) {
  NF_CHECK(entry(id) != nullptr) << "id " << id;
  entries_[static_cast<size_t>(id)].added = true;
  entries_[static_cast<size_t>(id)].special = special;
}

std::optional<int32_t> Vocabulary::find(std::string_view spelling) const {
  const auto found = ids_->by_spelling.find(spelling);
  if (found == ids_->by_spelling.end()) return {};
  return found->second;
}

const Vocabulary::Entry* Vocabulary::entry(int64_t id) const {
  if (id < 0 || id >= size() || !entries_[static_cast<size_t>(id)].known) return nullptr;
  return &entries_[static_cast<size_t>(id)];
}

}  // namespace nemoforge::text
