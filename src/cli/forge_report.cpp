#include "cli/forge_report.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json.h"
#include "report/pass_rate.h"
#include "store/run_store.h"

namespace nemoforge::cli {
namespace {

using io::Json;

// What a round trained on.
struct RoundData {
  int64_t num_traces = 0;
  int64_t num_correct = 0;
  int64_t num_rows = 0;  // of the dataset: of this round and those before
};

struct Measurement {
  int64_t round = 0;  // 0: before training
  report::PassCounts counts;
};

Result<RoundData> read_round(const ForgeSettings& settings, int64_t round) {
  NF_TRY(const store::RunStore run,
         store::RunStore::open(training_run(settings, round), store::Access::kRead));
  NF_TRY(const store::Summary summary, run.summary());
  NF_TRY(const std::string rows, io::read_file(dataset_path(settings, round)));
  return RoundData{summary.num_traces, summary.num_correct, std::count(rows.begin(), rows.end(), '\n')};
}

Result<std::vector<Measurement>> read_measurements(const ForgeSettings& settings) {
  std::vector<Measurement> all(1);
  NF_TRY(all[0].counts, report::count_held_out_passes(before_run(settings)));
  for (int64_t round = 1; round <= settings.num_rounds; ++round) {
    if (!settings.measures_after(round)) continue;
    NF_TRY(report::PassCounts counts, report::count_held_out_passes(held_out_run(settings, round)));
    all.push_back({round, std::move(counts)});
  }
  return all;
}

void keep_common_problems(std::vector<Measurement>& all) {
  const std::vector<Measurement> given = all;
  for (Measurement& measurement : all) {
    std::erase_if(measurement.counts, [&](const auto& entry) {
      return std::any_of(given.begin(), given.end(),
                         [&](const Measurement& other) { return !other.counts.contains(entry.first); });
    });
  }
}

Json to_json(const report::Interval& interval) {
  return Json::array({interval.low, interval.high});
}

std::string percent(double value, const report::Interval& interval) {
  return fmt::format("{:5.1f}% [{:.1f}, {:.1f}]", 100 * value, 100 * interval.low, 100 * interval.high);
}

std::string signed_points(double value, const report::Interval& interval) {
  return fmt::format("{:+5.1f} [{:.1f}, {:.1f}]", 100 * value, 100 * interval.low, 100 * interval.high);
}

Json by_problem(const std::vector<Measurement>& all, int64_t num_rounds) {
  Json problems = Json::object();
  for (const Measurement& measurement : all) {
    const std::string name = measurement.round == 0            ? "before"
                             : measurement.round == num_rounds ? "after"
                                                               : round_name(measurement.round);
    for (const auto& [id, count] : measurement.counts) {
      problems[id][name] = {count.num_correct, count.num_samples};
    }
  }
  return problems;
}

Result<Json> rounds_json(const ForgeSettings& settings) {
  Json rounds = Json::array();
  for (int64_t round = 1; round <= settings.num_rounds; ++round) {
    NF_TRY(const RoundData data, read_round(settings, round));
    rounds.push_back({{"round", round},
                      {"num_traces", data.num_traces},
                      {"num_correct", data.num_correct},
                      {"num_rows", data.num_rows},
                      {"adapter", adapter_dir(settings, round)}});
  }
  return rounds;
}

std::string row(const std::string& name, const std::string& data, const std::string& rate,
                const std::string& difference) {
  return fmt::format("  {:<10} {:<34} {:<22} {}\n", name, data, rate, difference);
}

}  // namespace

Result<std::string> write_forge_report(const ForgeSettings& settings) {
  NF_TRY(std::vector<Measurement> all, read_measurements(settings));
  keep_common_problems(all);
  NF_TRY(Json rounds, rounds_json(settings));
  std::string table;
  report::PassComparison last;
  for (size_t i = 1; i < all.size(); ++i) {
    NF_TRY(const report::PassComparison result,
           report::compare_passes(all[0].counts, all[i].counts, settings.seed));
    if (i == 1) table += row("before", "", percent(result.before, result.before_interval), "");
    Json& round = rounds[static_cast<size_t>(all[i].round - 1)];
    const double difference = result.after - result.before;
    table += row(fmt::format("round {}", all[i].round),
                 fmt::format("{} of {} traces correct, {} rows", round["num_correct"].get<int64_t>(),
                             round["num_traces"].get<int64_t>(), round["num_rows"].get<int64_t>()),
                 percent(result.after, result.after_interval),
                 signed_points(difference, result.difference_interval));
    round["pass_at_1"] = result.after;
    round["interval_95"] = to_json(result.after_interval);
    round["difference"] = difference;
    round["difference_interval_95"] = to_json(result.difference_interval);
    last = result;
  }
  const int64_t num_samples = settings.samples_of_held_out();
  const Json json = {{"num_problems", last.num_problems},
                     {"num_samples", num_samples},
                     {"temperature", settings.temperature_of_held_out()},
                     {"pass_at_1_before", last.before},
                     {"pass_at_1_after", last.after},
                     {"before_interval_95", to_json(last.before_interval)},
                     {"after_interval_95", to_json(last.after_interval)},
                     {"difference", last.after - last.before},
                     {"difference_interval_95", to_json(last.difference_interval)},
                     {"rounds", std::move(rounds)},
                     {"problems", by_problem(all, settings.num_rounds)}};
  const std::string path = settings.path("report.json");
  NF_RETURN_IF_ERROR(io::write_file_atomically(path, json.dump(2) + "\n"));
  return fmt::format(
             "\npass@1 on {} held-out problems, temperature {}, samples per problem: {} (95% intervals, "
             "bootstrap over problems)\n",
             last.num_problems, settings.temperature_of_held_out(), num_samples) +
         row("", "trained on", " pass@1", " change from before") + table + "report: " + path +
         "\nadapter: " + adapter_dir(settings, settings.num_rounds) + "\n";
}

}  // namespace nemoforge::cli
