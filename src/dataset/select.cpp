#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

#include "dataset/candidate.h"

namespace nemoforge::dataset {
namespace {

auto position_of(const Candidate& c) {
  return std::tie(c.problem_id, c.run_idx, c.sample_idx, c.attempt_idx);
}

bool is_better(const Candidate& a, const Candidate& b) {
  const double speedup_a = a.speedup.value_or(0);
  const double speedup_b = b.speedup.value_or(0);
  if (speedup_a != speedup_b) return speedup_a > speedup_b;
  if (a.num_completion_tokens != b.num_completion_tokens) {
    return a.num_completion_tokens < b.num_completion_tokens;
  }
  return position_of(a) < position_of(b);
}

// How alike two candidates are: as much as the less similar of code and reasoning.
double likeness(const Candidate& a, const Candidate& b) {
  return std::min(similarity(a.code, b.code), similarity(a.reasoning, b.reasoning));
}

// `candidates` are in order of quality; so is what is left.
std::vector<Candidate> without_duplicates(std::vector<Candidate>&& candidates, double threshold,
                                          std::map<DropReason, int64_t>& num_dropped) {
  std::vector<Candidate> kept;
  std::set<std::string> contents;
  SimilarityIndex index(threshold);
  for (Candidate& candidate : candidates) {
    if (!contents.insert(candidate.content_hash).second) {
      ++num_dropped[DropReason::kExactDuplicate];
      continue;
    }
    const std::vector<size_t> rivals = index.candidates(candidate.code);
    const bool is_alike = std::any_of(rivals.begin(), rivals.end(), [&](size_t rival) {
      return likeness(kept[rival], candidate) >= threshold;
    });
    if (is_alike) {
      ++num_dropped[DropReason::kNearDuplicate];
      continue;
    }
    index.add(candidate.code);
    kept.push_back(std::move(candidate));
  }
  return kept;
}

// The k to keep of one problem's candidates, which are in order of quality.
std::vector<Candidate> best_of(std::vector<Candidate>&& candidates, size_t k) {
  const size_t num_candidates = candidates.size();
  std::vector<double> greatest_likeness(num_candidates, 0);
  std::vector<bool> is_taken(num_candidates, false);
  std::vector<Candidate> taken;
  while (taken.size() < std::min(k, num_candidates)) {
    size_t best = 0;
    double best_score = -std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < num_candidates; ++i) {
      const double rank = 1 - static_cast<double>(i) / static_cast<double>(num_candidates);
      if (is_taken[i] || rank - greatest_likeness[i] <= best_score) continue;
      best = i;
      best_score = rank - greatest_likeness[i];
    }
    is_taken[best] = true;
    taken.push_back(candidates[best]);
    for (size_t i = 0; i < num_candidates; ++i) {
      greatest_likeness[i] = std::max(greatest_likeness[i], likeness(candidates[i], candidates[best]));
    }
  }
  return taken;
}

std::vector<Candidate> best_of_each_problem(std::vector<Candidate>&& candidates, size_t k,
                                            std::map<DropReason, int64_t>& num_dropped) {
  std::map<std::string, std::vector<Candidate>> of_problem;
  for (Candidate& candidate : candidates) of_problem[candidate.problem_id].push_back(std::move(candidate));
  std::vector<Candidate> kept;
  for (auto& [problem_id, list] : of_problem) {
    const size_t num_before = list.size();
    std::vector<Candidate> best = best_of(std::move(list), k);
    if (best.size() < num_before) {
      num_dropped[DropReason::kBestOf] += static_cast<int64_t>(num_before - best.size());
    }
    for (Candidate& candidate : best) kept.push_back(std::move(candidate));
  }
  return kept;
}

}  // namespace

void select(const DatasetConfig& config, Collection& collection) {
  std::vector<Candidate>& candidates = collection.candidates;
  std::sort(candidates.begin(), candidates.end(), is_better);
  candidates =
      without_duplicates(std::move(candidates), config.near_duplicate_similarity, collection.num_dropped);
  if (config.best_of) {
    candidates = best_of_each_problem(std::move(candidates), static_cast<size_t>(*config.best_of),
                                      collection.num_dropped);
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return position_of(a) < position_of(b); });
  for (const Candidate& candidate : candidates) ++collection.problems[candidate.problem_id].num_rows;
}

}  // namespace nemoforge::dataset
