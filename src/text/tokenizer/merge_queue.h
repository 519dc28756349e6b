// The order in which the pairs of a word are merged: lowest rank first, and of one rank from left to right.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

namespace nemoforge::text {

struct MergeCandidate {
  uint32_t rank;
  int32_t position;  // of the pair's left symbol
};

// A binary heap: for words of ordinary length.
class HeapMergeQueue {
 public:
  bool empty() const { return heap_.empty(); }

  void push(MergeCandidate candidate) {
    heap_.push_back(uint64_t{candidate.rank} << 32 | static_cast<uint32_t>(candidate.position));
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }

  MergeCandidate pop() {
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    const uint64_t least = heap_.back();
    heap_.pop_back();
    return {static_cast<uint32_t>(least >> 32), static_cast<int32_t>(least & 0x7FFFFFFF)};
  }

 private:
  std::vector<uint64_t> heap_;
};

// For words of any length: a queue of positions for each rank. Merging a rank goes through the word from left
// to right, and so do the candidates that it makes, so that a push mostly goes to the end of a queue and a
// pop takes its front, both in constant time and in the order of memory (one heap of a million entries misses
// the caches at each step: six times slower). What does not come in order goes to a heap beside the queue.
class RankedMergeQueue {
 public:
  bool empty() const { return ranks_.empty(); }

  void push(MergeCandidate candidate) {
    if (candidate.rank >= bucket_of_rank_.size()) bucket_of_rank_.resize(candidate.rank + 1, -1);
    int32_t& index = bucket_of_rank_[candidate.rank];
    if (index < 0) {
      index = static_cast<int32_t>(buckets_.size());
      buckets_.emplace_back();
    }
    Bucket& bucket = buckets_[static_cast<size_t>(index)];
    if (bucket.empty()) {
      ranks_.push_back(candidate.rank);
      std::push_heap(ranks_.begin(), ranks_.end(), std::greater<>());
    }
    if (bucket.run.empty() || bucket.run.back() < candidate.position) {
      bucket.run.push_back(candidate.position);
    } else {
      bucket.others.push_back(candidate.position);
      std::push_heap(bucket.others.begin(), bucket.others.end(), std::greater<>());
    }
  }

  MergeCandidate pop() {
    const uint32_t rank = ranks_.front();
    Bucket& bucket = buckets_[static_cast<size_t>(bucket_of_rank_[rank])];
    const int32_t position = bucket.pop();
    if (bucket.empty()) {
      bucket.run.clear();
      bucket.front = 0;
      std::pop_heap(ranks_.begin(), ranks_.end(), std::greater<>());
      ranks_.pop_back();
    }
    return {rank, position};
  }

 private:
  struct Bucket {
    std::vector<int32_t> run;  // ascending; what lies before `front` has been taken
    size_t front = 0;
    std::vector<int32_t> others;  // a heap, the least first

    bool empty() const { return front == run.size() && others.empty(); }

    int32_t pop() {
      if (others.empty() || (front < run.size() && run[front] < others.front())) return run[front++];
      std::pop_heap(others.begin(), others.end(), std::greater<>());
      const int32_t position = others.back();
      others.pop_back();
      return position;
    }
  };

  std::vector<uint32_t> ranks_;  // a heap of the ranks that have candidates
  std::vector<int32_t> bucket_of_rank_;
  std::vector<Bucket> buckets_;
};

}  // namespace nemoforge::text
