#include "verify/problem_survey.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/temporary_folder.h"
#include "io/file.h"
#include "verify/backend.h"
#include "verify/random_name.h"
#include "verify/reference_worker.h"

namespace nemoforge::verify {
namespace {

// Of a Python with torch before any tensor.
constexpr int64_t kIdleAddressSpaceBytes = int64_t{8} << 30;

// One thread's process and the folder that it may read.
class Surveyor {
 public:
  Surveyor(const PythonEnvironment& python, const Sandbox& sandbox, const SizeLimits& limits)
      : python_(&python), sandbox_(&sandbox), limits_(limits) {}

  Result<SurveyedProblem> survey(const std::string& source) {
    const int64_t started_ms = wall_clock_ms();
    if (folder_.path().empty()) {
      NF_TRY(folder_, TemporaryFolder::create());
    }
    if (!reference_.running()) {
      NF_TRY(reference_, ReferenceWorker::start(*python_, {.sandbox = sandbox_,
                                                           .readable_folder = folder_.path(),
                                                           .max_address_space_bytes =
                                                               kIdleAddressSpaceBytes + limits_.memory_bytes,
                                                           .measures_many = true}));
    }
    const std::string path = folder_.path() + "/problem_" + random_name() + ".py";
    NF_RETURN_IF_ERROR(io::write_file_atomically(path, source));
    SurveyedProblem surveyed;
    surveyed.measurement = reference_.measure(path, io::Json::object());
    surveyed.size = judge_size(surveyed.measurement, limits_);
    surveyed.wall_ms = wall_clock_ms() - started_ms;
    return surveyed;
  }

 private:
  const PythonEnvironment* python_;
  const Sandbox* sandbox_;
  SizeLimits limits_;
  TemporaryFolder folder_;
  ReferenceWorker reference_;
};

}  // namespace

Status survey_problems(const std::vector<std::string>& sources, const PythonEnvironment& python,
                       const Sandbox& sandbox, const SurveyOptions& options,
                       const std::function<bool(size_t, const SurveyedProblem&)>& on_problem) {
  std::atomic<size_t> next = 0;
  std::atomic<bool> stop = false;
  std::mutex mutex;
  Status outcome;
  const auto work = [&] {
    Surveyor surveyor(python, sandbox, options.limits);
    while (!stop) {
      const size_t index = next++;
      if (index >= sources.size()) return;
      auto surveyed = surveyor.survey(sources[index]);
      const std::scoped_lock lock(mutex);
      if (!surveyed) {
        outcome = forward_error(std::move(surveyed));
        stop = true;
      } else if (!stop && !on_problem(index, *surveyed)) {
        stop = true;
      }
    }
  };
  const auto num_threads = std::min(static_cast<size_t>(std::max(1, options.num_workers)), sources.size());
  std::vector<std::thread> threads;
  for (size_t i = 1; i < num_threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return outcome;
}

}  // namespace nemoforge::verify
