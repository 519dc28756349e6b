#include "dataset/min_hash.h"

#include <algorithm>

namespace nemoforge::dataset {
namespace {

// The finalizer of SplitMix64: every input bit changes half of the output bits.
uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

// FNV-1a, then mixed.
uint64_t token_hash(std::string_view token) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : token) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return mixed(hash);
}

}  // namespace

MinHash min_hash(const std::vector<std::string_view>& tokens, size_t shingle_len) {
  std::vector<uint64_t> hashes;
  hashes.reserve(tokens.size());
  for (const std::string_view token : tokens) hashes.push_back(token_hash(token));
  const size_t len = std::min(shingle_len, hashes.size());
  MinHash signature;
  signature.fill(UINT32_MAX);
  for (size_t begin = 0; begin + len <= hashes.size() && len > 0; ++begin) {
    uint64_t shingle = 0;
    for (size_t i = begin; i < begin + len; ++i) shingle = mixed(shingle + hashes[i]);
    // One hash function for each entry: an odd step of the golden ratio apart.
    for (size_t i = 0; i < kNumMinHashes; ++i) {
      const auto value = static_cast<uint32_t>(mixed(shingle ^ ((i + 1) * 0x9e3779b97f4a7c15U)) >> 32);
      signature[i] = std::min(signature[i], value);
    }
  }
  return signature;
}

double similarity(const MinHash& a, const MinHash& b) {
  size_t num_equal = 0;
  for (size_t i = 0; i < kNumMinHashes; ++i) num_equal += a[i] == b[i] ? 1 : 0;
  return static_cast<double>(num_equal) / kNumMinHashes;
}

std::vector<std::string_view> words(std::string_view text) {
  const auto is_space = [](char c) { return static_cast<unsigned char>(c) <= ' '; };
  std::vector<std::string_view> result;
  for (size_t begin = 0; begin < text.size();) {
    if (is_space(text[begin])) {
      ++begin;
      continue;
    }
    size_t end = begin;
    while (end < text.size() && !is_space(text[end])) ++end;
    result.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return result;
}

std::vector<uint64_t> SimilarityIndex::band_keys(const MinHash& signature) const {
  std::vector<uint64_t> keys;
  for (size_t begin = 0; begin < kNumMinHashes; begin += rows_in_band_) {
    uint64_t key = begin;
    for (size_t i = begin; i < begin + rows_in_band_; ++i) key = mixed(key + signature[i]);
    keys.push_back(key);
  }
  return keys;
}

void SimilarityIndex::add(const MinHash& signature) {
  for (const uint64_t key : band_keys(signature)) buckets_[key].push_back(num_entries_);
  ++num_entries_;
}

std::vector<size_t> SimilarityIndex::candidates(const MinHash& signature) const {
  std::vector<size_t> found;
  for (const uint64_t key : band_keys(signature)) {
    const auto bucket = buckets_.find(key);
    if (bucket != buckets_.end()) found.insert(found.end(), bucket->second.begin(), bucket->second.end());
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

}  // namespace nemoforge::dataset
