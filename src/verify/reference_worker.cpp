#include "verify/reference_worker.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string_view>

#include "verify/worker_message.h"

namespace nemoforge::verify {
namespace {

using io::Json;

constexpr auto kTimeout = std::chrono::seconds(240);

template <typename T>
std::vector<T> take_values(std::string_view& blob, size_t count) {
  std::vector<T> values(count);
  std::memcpy(values.data(), blob.data(), count * sizeof(T));
  blob.remove_prefix(count * sizeof(T));
  return values;
}

}  // namespace

Result<ReferenceWorker> ReferenceWorker::start(const PythonEnvironment& python) {
  ReferenceWorker worker;
  WorkerCommand command;
  command.argv = {python.interpreter, "-E", "-s", python.scripts + "/reference_worker.py"};
  command.environment = {"PATH=/usr/bin:/bin",     "HOME=/tmp",
                         "LC_ALL=C.UTF-8",         "OMP_NUM_THREADS=1",
                         "OPENBLAS_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1",
                         "CUDA_VISIBLE_DEVICES=",  "TORCH_CPP_LOG_LEVEL=FATAL"};
  NF_TRY(worker.process_, WorkerProcess::start(command));
  worker.running_ = true;
  return worker;
}

Result<const LoadedProblem*> ReferenceWorker::load(const std::string& path, const Json& overrides,
                                                   const Json& seeds) {
  const std::string key = path + '\n' + io::dump_json(overrides);
  if (serves_problem_ && loaded_key_ == key) return &loaded_;
  loaded_key_.clear();
  if (serves_problem_)
    NF_RETURN_IF_ERROR(ask({{"command", "unload"}}, nullptr).transform([](const Json&) {}));
  process_.forget_output();
  serves_problem_ = true;
  LoadedProblem problem;
  problem.seeds = seeds;
  NF_TRY(problem.facts,
         ask({{"command", "load"}, {"problem", path}, {"overrides", overrides}, {"seeds", seeds}},
             &problem.init_blob));
  loaded_ = std::move(problem);
  loaded_key_ = key;
  return &loaded_;
}

Result<Json> ReferenceWorker::ask(const Json& message, std::string* blob) {
  auto answer = process_.exchange(message, {}, kTimeout);
  if (!answer) {
    process_.kill();
    running_ = false;
    return error(ErrorCode::kUnavailable, answer.error() == ExchangeFailure::kTimeout
                                              ? "the reference took longer than the limit"
                                              : "the reference's process died: " + process_.standard_error());
  }
  if (answer->message.contains("error")) {
    return error(ErrorCode::kInvalidData,
                 "the problem: " + get<std::string>(answer->message["error"], "text", ""));
  }
  if (blob != nullptr) *blob = std::move(answer->blob);
  return std::move(answer->message);
}

Result<PreparedTrial> ReferenceWorker::prepare(const Trial& trial) {
  const bool asks_precision = trial.kind == "normal";
  std::string blob;
  NF_TRY(Json reply, ask({{"command", "trial"},
                          {"model", trial.instance},
                          {"kind", trial.kind == "kernelbench" ? "plain" : trial.kind},
                          {"seed", trial.seed},
                          {"precision", asks_precision}},
                         &blob));
  PreparedTrial prepared;
  prepared.inputs = std::move(reply["inputs"]);
  prepared.sizes = tensor_sizes(prepared.inputs);
  const auto input_bytes = get<size_t>(reply, "input_bytes", 0);
  prepared.input_bytes = blob.substr(0, input_bytes);
  prepared.dropped = get<std::string>(reply, "dropped", "");
  prepared.eager_rms = get(reply, "eager_rms", 0.0);
  std::string_view rest = std::string_view(blob).substr(input_bytes);
  bool all_float32 = true;
  for (const Json& output : reply["outputs"]) {
    ExpectedOutput expected;
    expected.dtype = output["dtype"].get<std::string>();
    expected.shape = output["shape"].get<std::vector<int64_t>>();
    expected.floating = output["floating"].get<bool>();
    expected.tolerance = output["tolerance"].get<double>();
    size_t count = 1;
    for (const int64_t size : expected.shape) count *= static_cast<size_t>(size);
    if (expected.floating) {
      expected.oracle = take_values<double>(rest, count);
      expected.eager = take_values<double>(rest, count);
    } else {
      expected.exact = take_values<int64_t>(rest, count);
      expected.exact_eager = take_values<int64_t>(rest, count);
    }
    all_float32 = all_float32 && expected.dtype == "float32";
    prepared.outputs.push_back(std::move(expected));
  }
  if (asks_precision && all_float32) {
    const double floor = std::min(get(reply, "tf32_rms", 0.0), get(reply, "fp16_rms", 0.0));
    // Where rounding the inputs changes next to nothing there is no precision to be told apart.
    if (floor > 1e-6 && floor > 20 * prepared.eager_rms) prepared.precision_floor = floor;
  }
  return prepared;
}

}  // namespace nemoforge::verify
