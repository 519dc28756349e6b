// Near-duplicates: how alike two token sequences are, from short signatures.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nemoforge::dataset {

inline constexpr size_t kNumMinHashes = 128;
using MinHash = std::array<uint32_t, kNumMinHashes>;

// The signature of the set of all runs of `shingle_len` tokens (of all tokens together where there are
// fewer). Source: Broder, "On the resemblance and containment of documents" (1997). The same on every
// machine.
[[nodiscard]] MinHash min_hash(const std::vector<std::string_view>& tokens, size_t shingle_len);

// The share of equal entries: estimates the Jaccard similarity of the two sets, with a standard error of at
// most 1 / (2 * sqrt(kNumMinHashes)) = 0.044.
[[nodiscard]] double similarity(const MinHash& a, const MinHash& b);

// The words of a prose text, for its shingles.
[[nodiscard]] std::vector<std::string_view> words(std::string_view text);

// Finds the earlier entries that are alike without comparing with all of them: those that agree in a whole
// band of their signatures (locality-sensitive hashing). Of entries with the threshold's similarity it finds
// 99% and more.
class SimilarityIndex {
 public:
  explicit SimilarityIndex(double threshold) : rows_in_band_(threshold >= 0.85 ? 8 : 4) {}

  // Adds an entry under the next number: 0, 1, ...
  void add(const MinHash& signature);
  // Numbers of entries that may be alike, ascending.
  [[nodiscard]] std::vector<size_t> candidates(const MinHash& signature) const;

 private:
  [[nodiscard]] std::vector<uint64_t> band_keys(const MinHash& signature) const;

  size_t rows_in_band_;
  size_t num_entries_ = 0;
  std::unordered_map<uint64_t, std::vector<size_t>> buckets_;
};

}  // namespace nemoforge::dataset
