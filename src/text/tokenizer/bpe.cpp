#include "text/tokenizer/bpe.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>
#include <unordered_map>

#include "base/check.h"
#include "base/rng.h"

namespace nemoforge::text {
namespace {

uint64_t pair_key(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

// A direct-mapped cache of the ids of short words: one line of 64 bytes a word, nothing allocated but the
// table, and none shared, so that a const Bpe serves any number of threads without a lock. Source code
// repeats its words so much that most of them are found here.
class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 22;
  static constexpr size_t kMaxIds = 8;

  struct alignas(64) Line {
    uint64_t owner = 0;  // the Bpe whose word this is; 0 is none
    uint8_t num_bytes = 0;
    uint8_t num_ids = 0;
    std::array<char, kMaxWordBytes> bytes{};
    std::array<int32_t, kMaxIds> ids{};

    bool holds(uint64_t by, std::string_view word) const {
      return owner == by && num_bytes == word.size() &&
             std::memcmp(bytes.data(), word.data(), num_bytes) == 0;
    }
  };
  static_assert(sizeof(Line) == 64);

  Line& line_of(std::string_view word) { return lines_[std::hash<std::string_view>{}(word) % kNumLines]; }

  static WordCache& of_this_thread() {
    thread_local WordCache cache;
    return cache;
  }

 private:
  static constexpr size_t kNumLines = 16384;  // 1 MiB: a core's level-2 cache
  std::vector<Line> lines_{kNumLines};
};

std::atomic<uint64_t> next_owner{1};

// Up to here the heap's entries stay in the first-level cache.
constexpr size_t kMaxHeapWordBytes = 512;

// The merges by pair: open addressing, at most half full, probed linearly. std::unordered_map takes three
// times as long for a pair that has no merge, which is what most look-ups find.
class MergeTable {
 public:
  struct Slot {
    uint64_t pair = kEmpty;
    uint32_t rank = 0;
    int32_t merged = 0;
  };

  explicit MergeTable(const std::vector<Merge>& merges)
      : slots_(std::bit_ceil(2 * merges.size() + 1)), seed_(secret_seed()) {
    uint32_t rank = 0;
    for (const Merge& merge : merges) {
      const uint64_t pair = pair_key(merge.left, merge.right);
      slots_[index_of(pair)] = {pair, rank++, merge.merged};
    }
  }

  // nullptr where the pair has no merge.
  const Slot* find(int32_t left, int32_t right) const {
    const Slot& slot = slots_[index_of(pair_key(left, right))];
    return slot.pair == kEmpty ? nullptr : &slot;
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};  // ids are not negative, so no pair is this

  // Where `pair` is, or would be.
  size_t index_of(uint64_t pair) const {
    // SplitMix64's finalizer, seeded so that no file can be made of pairs that collide.
    uint64_t hash = pair ^ seed_;
    hash = (hash ^ hash >> 30) * 0xBF58476D1CE4E5B9u;
    hash = (hash ^ hash >> 27) * 0x94D049BB133111EBu;
    const size_t mask = slots_.size() - 1;
    size_t index = (hash ^ hash >> 31) & mask;
    while (slots_[index].pair != kEmpty && slots_[index].pair != pair) index = (index + 1) & mask;
    return index;
  }

  std::vector<Slot> slots_;
  uint64_t seed_;
};

}  // namespace

struct Bpe::Tables {
  Tables(const std::array<int32_t, 256>& byte_ids_in, MergeTable merges_in,
         std::vector<std::pair<std::string, int32_t>> whole_words_in)
      : byte_ids(byte_ids_in), merges(std::move(merges_in)), whole_word_bytes(std::move(whole_words_in)) {
    whole_words.reserve(whole_word_bytes.size());
    for (const auto& [bytes, id] : whole_word_bytes) whole_words.emplace(bytes, id);
  }

  std::array<int32_t, 256> byte_ids;
  MergeTable merges;
  std::vector<std::pair<std::string, int32_t>> whole_word_bytes;
  std::unordered_map<std::string_view, int32_t> whole_words;  // keys point into whole_word_bytes
  uint64_t owner = next_owner.fetch_add(1);
};

Bpe::Bpe(const std::array<int32_t, 256>& byte_ids, const std::vector<Merge>& merges,
         std::vector<std::pair<std::string, int32_t>> whole_words)
    : tables_(std::make_unique<const Tables>(byte_ids, MergeTable(merges), std::move(whole_words))) {}

Bpe::~Bpe() = default;
Bpe::Bpe(Bpe&&) noexcept = default;
Bpe& Bpe::operator=(Bpe&&) noexcept = default;

void Bpe::encode_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (word.size() > WordCache::kMaxWordBytes) {
    merge_word(word, scratch, ids);
    return;
  }
  WordCache::Line& line = WordCache::of_this_thread().line_of(word);
  if (line.holds(tables_->owner, word)) {
    ids.insert(ids.end(), line.ids.begin(), line.ids.begin() + line.num_ids);
    return;
  }
  const size_t first = ids.size();
  merge_word(word, scratch, ids);
  if (ids.size() - first > WordCache::kMaxIds) return;
  line.owner = tables_->owner;
  line.num_bytes = static_cast<uint8_t>(word.size());
  line.num_ids = static_cast<uint8_t>(ids.size() - first);
  std::copy(word.begin(), word.end(), line.bytes.begin());
  std::copy(ids.begin() + static_cast<std::ptrdiff_t>(first), ids.end(), line.ids.begin());
}

template <typename Queue>
void Bpe::merge_symbols(std::vector<Scratch::Symbol>& symbols, Queue& queue) const {
  const auto at = [&symbols](int32_t position) -> Scratch::Symbol& {
    return symbols[static_cast<size_t>(position)];
  };
  // The merge of the symbol at `position` with the next, where there is one.
  const auto find_merge = [&](int32_t position) -> const MergeTable::Slot* {
    const Scratch::Symbol& left = at(position);
    return left.id < 0 || left.next < 0 ? nullptr : tables_->merges.find(left.id, at(left.next).id);
  };
  const auto push = [&](int32_t position) {
    if (const MergeTable::Slot* merge = find_merge(position)) queue.push({merge->rank, position});
  };

  for (size_t i = 0; i + 1 < symbols.size(); ++i) push(static_cast<int32_t>(i));
  while (!queue.empty()) {
    const MergeCandidate candidate = queue.pop();
    // A candidate of which a symbol has since been merged with another has expired.
    const MergeTable::Slot* merge = find_merge(candidate.position);
    if (merge == nullptr || merge->rank != candidate.rank) continue;
    Scratch::Symbol& left = at(candidate.position);
    Scratch::Symbol& right = at(left.next);
    left.id = merge->merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) at(left.next).previous = candidate.position;
    if (left.previous >= 0) push(left.previous);
    push(candidate.position);
  }
}

void Bpe::merge_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  NF_CHECK(word.size() < std::numeric_limits<int32_t>::max()) << "a word of " << word.size() << " bytes";
  if (const auto whole = tables_->whole_words.find(word); whole != tables_->whole_words.end()) {
    ids.push_back(whole->second);
    return;
  }
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  const auto num_symbols = static_cast<int32_t>(word.size());
  symbols.resize(word.size());
  for (int32_t i = 0; i < num_symbols; ++i) {
    const int32_t id = tables_->byte_ids[static_cast<uint8_t>(word[static_cast<size_t>(i)])];
    symbols[static_cast<size_t>(i)] = {id, i - 1, i + 1 < num_symbols ? i + 1 : -1};
  }
  if (word.size() <= kMaxHeapWordBytes) {
    merge_symbols(symbols, scratch.heap);
  } else {
    merge_symbols(symbols, scratch.ranked);
  }
  for (int32_t i = 0; i >= 0 && i < num_symbols; i = symbols[static_cast<size_t>(i)].next) {
    ids.push_back(symbols[static_cast<size_t>(i)].id);
  }
}

}  // namespace nemoforge::text
