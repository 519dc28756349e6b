#include "report/report.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>
#include <string_view>

#include "store/problem_split.h"

namespace nemoforge::report {
namespace {

constexpr std::array<double, 5> kFastThresholds = {0, 1, 1.2, 1.5, 2};
constexpr std::string_view kLevelPrefix = "level";

struct SampleOutcome {
  bool is_correct = false;
  std::optional<double> speedup;
};

// Of a problem, its samples' outcomes by sample index.
struct ProblemOutcomes {
  std::map<int64_t, SampleOutcome> samples;
  bool has_verdict = false;
};

using Outcomes = std::map<std::string, ProblemOutcomes>;

// Reads the run's traces, one after the other, into a report and the outcomes of the samples.
class Reader {
 public:
  Reader(RunReport& report, Outcomes& outcomes) : report_(report), outcomes_(outcomes) {}

  void take(const store::JudgedTrace& judged) {
    const store::Trace& trace = judged.trace;
    ++report_.num_traces;
    report_.num_with_code += trace.code.empty() ? 0 : 1;
    report_.completion_tokens.push_back(static_cast<double>(trace.num_completion_tokens));
    models_.insert(trace.adapter.empty() ? trace.model : trace.model + " with " + trace.adapter);
    if (!judged.verdict) {
      ++verdicts_["(no verdict yet)"];
      return;
    }
    const store::Verdict& verdict = *judged.verdict;
    ++report_.num_verified;
    ++verdicts_[verdict.verdict];
    devices_.insert(verdict.device);
    ProblemOutcomes& problem = outcomes_[trace.problem_id];
    problem.has_verdict = true;
    if (!is_about_candidate(verdict.verdict)) return;
    num_judged_tokens_ += trace.num_completion_tokens;
    SampleOutcome& sample = problem.samples[trace.sample_idx];
    AttemptCounts& attempt = attempt_counts(trace.attempt_idx);
    ++attempt.num_traces;
    if (!verdict.correct) return;
    ++attempt.num_correct;
    if (!sample.is_correct) ++attempt.num_samples_correct;
    sample.is_correct = true;
    if (verdict.speedup && *verdict.speedup > 0) {
      sample.speedup = std::max(*verdict.speedup, sample.speedup.value_or(0));
    }
    report_.correct_completion_tokens.push_back(static_cast<double>(trace.num_completion_tokens));
  }

  void finish() {
    report_.models.assign(models_.begin(), models_.end());
    report_.devices.assign(devices_.begin(), devices_.end());
    report_.verdicts.assign(verdicts_.begin(), verdicts_.end());
    std::stable_sort(report_.verdicts.begin(), report_.verdicts.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    int64_t num_correct = 0;
    for (const auto& [id, problem] : outcomes_) {
      if (problem.samples.empty()) report_.excluded_problems.push_back(id);
      for (const auto& [sample_idx, sample] : problem.samples) {
        num_correct += sample.is_correct ? 1 : 0;
        if (sample.speedup) report_.speedups.push_back(*sample.speedup);
      }
    }
    for (size_t i = 1; i < report_.attempts.size(); ++i) {
      report_.attempts[i].num_samples_correct += report_.attempts[i - 1].num_samples_correct;
    }
    if (num_correct > 0) {
      report_.tokens_per_correct_sample =
          static_cast<double>(num_judged_tokens_) / static_cast<double>(num_correct);
    }
    for (auto* values : {&report_.speedups, &report_.completion_tokens, &report_.correct_completion_tokens}) {
      std::sort(values->begin(), values->end());
    }
  }

 private:
  AttemptCounts& attempt_counts(int64_t attempt_idx) {
    const auto index = static_cast<size_t>(attempt_idx);
    if (report_.attempts.size() <= index) report_.attempts.resize(index + 1);
    return report_.attempts[index];
  }

  RunReport& report_;
  Outcomes& outcomes_;
  std::set<std::string> models_;
  std::set<std::string> devices_;
  std::map<std::string, int64_t> verdicts_;
  int64_t num_judged_tokens_ = 0;
};

std::vector<int64_t> powers_of_two(int64_t largest) {
  std::vector<int64_t> powers;
  for (int64_t k = 1; k <= largest; k *= 2) powers.push_back(k);
  return powers;
}

int64_t most_samples(const Outcomes& outcomes) {
  size_t most = 0;
  for (const auto& [id, problem] : outcomes) most = std::max(most, problem.samples.size());
  return static_cast<int64_t>(most);
}

double share_faster(const ProblemOutcomes& problem, double threshold) {
  int64_t num_faster = 0;
  for (const auto& [sample_idx, sample] : problem.samples) {
    const bool is_faster = threshold == 0 || sample.speedup.value_or(0) > threshold;
    num_faster += sample.is_correct && is_faster ? 1 : 0;
  }
  return static_cast<double>(num_faster) / static_cast<double>(problem.samples.size());
}

int64_t count_correct(const ProblemOutcomes& problem) {
  return std::count_if(problem.samples.begin(), problem.samples.end(),
                       [](const auto& sample) { return sample.second.is_correct; });
}

Group make_group(const std::string& name, const std::vector<const ProblemOutcomes*>& problems,
                 const std::vector<int64_t>& ks) {
  Group group;
  group.name = name;
  group.num_problems = static_cast<int64_t>(problems.size());
  for (const ProblemOutcomes* problem : problems) {
    const int64_t num_correct = count_correct(*problem);
    group.num_samples += static_cast<int64_t>(problem->samples.size());
    group.num_correct += num_correct;
    group.num_solved += num_correct > 0 ? 1 : 0;
    group.num_timed += std::count_if(problem->samples.begin(), problem->samples.end(),
                                     [](const auto& sample) { return sample.second.speedup.has_value(); });
  }
  for (const int64_t k : ks) {
    std::vector<double> values;
    for (const ProblemOutcomes* problem : problems) {
      const auto num_samples = static_cast<int64_t>(problem->samples.size());
      if (num_samples >= k) values.push_back(pass_at_k(num_samples, count_correct(*problem), k));
    }
    if (const auto estimate = mean_over_problems(values)) group.pass_at_k.emplace_back(k, *estimate);
  }
  for (const double threshold : kFastThresholds) {
    std::optional<Estimate> estimate;
    if (threshold == 0 || group.num_timed > 0) {
      std::vector<double> values;
      for (const ProblemOutcomes* problem : problems) values.push_back(share_faster(*problem, threshold));
      estimate = mean_over_problems(values);
    }
    group.fast_p.emplace_back(threshold, estimate);
  }
  return group;
}

// The problems of each group that the report shows, by its name, in order.
std::vector<std::pair<std::string, std::vector<const ProblemOutcomes*>>> grouped(
    const Outcomes& outcomes, const store::ProblemSplits& splits) {
  std::vector<const ProblemOutcomes*> all;
  std::map<int64_t, std::vector<const ProblemOutcomes*>> levels;
  std::map<store::Split, std::vector<const ProblemOutcomes*>> sides;
  for (const auto& [id, problem] : outcomes) {
    if (problem.samples.empty()) continue;
    all.push_back(&problem);
    levels[place_of(id).level].push_back(&problem);
    if (const auto side = splits.find(id); side != splits.end()) sides[side->second].push_back(&problem);
  }
  std::vector<std::pair<std::string, std::vector<const ProblemOutcomes*>>> groups = {{"all", all}};
  for (const auto& [level, problems] : levels) {
    if (level > 0) groups.emplace_back("level " + std::to_string(level), problems);
  }
  for (const auto& [side, problems] : sides) {
    groups.emplace_back(side == store::Split::kTrain ? "train" : "held out", problems);
  }
  return groups;
}

}  // namespace

ProblemPlace place_of(const std::string& problem_id) {
  if (!problem_id.starts_with(kLevelPrefix)) return {};
  ProblemPlace place;
  const char* const end = problem_id.data() + problem_id.size();
  const auto level = std::from_chars(problem_id.data() + kLevelPrefix.size(), end, place.level);
  if (level.ec != std::errc() || level.ptr == end || *level.ptr != '_' || place.level < 1) return {};
  const auto number = std::from_chars(level.ptr + 1, end, place.number);
  if (number.ec != std::errc() || place.number < 0) place.number = 0;
  return place;
}

bool is_about_candidate(const std::string& verdict) {
  return verdict != "not_verified" && verdict != "needs_gpu" && verdict != "problem_degenerate";
}

Result<RunReport> report_run(const store::RunStore& run, const std::string& dir,
                             const std::vector<int64_t>& ks) {
  RunReport report;
  report.dir = dir;
  NF_TRY(const std::vector<store::Problem> problems, run.problems());
  report.num_problems = static_cast<int64_t>(problems.size());
  NF_TRY(const store::ProblemSplits splits, store::read_problem_splits(dir));
  Outcomes outcomes;
  Reader reader(report, outcomes);
  NF_RETURN_IF_ERROR(run.for_each_trace([&reader](store::JudgedTrace&& judged) {
    reader.take(judged);
    return true;
  }));
  reader.finish();
  const std::vector<int64_t> shown_ks = ks.empty() ? powers_of_two(most_samples(outcomes)) : ks;
  for (const auto& [name, members] : grouped(outcomes, splits)) {
    report.groups.push_back(make_group(name, members, shown_ks));
  }
  return report;
}

}  // namespace nemoforge::report
