#include "verify/reference_worker.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "verify/worker_message.h"

namespace nemoforge::verify {
namespace {

using io::Json;

constexpr auto kTimeout = std::chrono::seconds(240);
constexpr int kMeasureSeconds = 120;

// The line of an exception, or of the traceback before it, that says what went wrong: a SyntaxError shows its
// place first, other messages begin with the exception and may go on.
std::string telling_line(std::string text) {
  text.erase(text.find_last_not_of(" \r\n") + 1);
  const bool ends_with_it = text.starts_with("File ") || text.starts_with("Traceback ");
  return ends_with_it ? text.substr(text.rfind('\n') + 1) : text.substr(0, text.find('\n'));
}

ProblemMeasurement failed(SizeClass failure, std::string reason) {
  ProblemMeasurement measurement;
  measurement.failure = failure;
  measurement.failure_reason = std::move(reason);
  return measurement;
}

std::string key_of(const std::string& path, const Json& overrides) {
  return path + '\n' + io::dump_json(overrides);
}

template <typename T>
std::vector<T> take_values(std::string_view& blob, size_t count) {
  std::vector<T> values(count);
  std::memcpy(values.data(), blob.data(), count * sizeof(T));
  blob.remove_prefix(count * sizeof(T));
  return values;
}

}  // namespace

Result<ReferenceWorker> ReferenceWorker::start(const PythonEnvironment& python,
                                               const ReferenceConfinement& confinement) {
  ReferenceWorker worker;
  WorkerCommand command;
  command.argv = {python.interpreter, "-E", "-s", python.scripts + "/reference_worker.py"};
  command.environment = {"PATH=/usr/bin:/bin",     "HOME=/tmp",
                         "LC_ALL=C.UTF-8",         "OMP_NUM_THREADS=1",
                         "OPENBLAS_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1",
                         "CUDA_VISIBLE_DEVICES=",  "TORCH_CPP_LOG_LEVEL=FATAL"};
  if (confinement.gpu) {
    std::erase(command.environment, "CUDA_VISIBLE_DEVICES=");
    command.environment.emplace_back("CUDA_DEVICE_ORDER=PCI_BUS_ID");
    command.environment.push_back("CUDA_VISIBLE_DEVICES=" + std::to_string(*confinement.gpu));
    command.environment.push_back("TRITON_CACHE_DIR=" + confinement.cache_folder);
    command.environment.push_back("TORCHINDUCTOR_CACHE_DIR=" + confinement.cache_folder);
    command.environment.emplace_back("TORCHINDUCTOR_COMPILE_THREADS=1");
    command.environment.emplace_back("LOGNAME=nobody");
    const char* libraries = std::getenv("LD_LIBRARY_PATH");
    if (libraries != nullptr) command.environment.push_back(std::string("LD_LIBRARY_PATH=") + libraries);
  }
  if (confinement.sandbox != nullptr) {
    const std::string& folder = confinement.readable_folder;
    command = confinement.sandbox->wrap(command.argv, python, {{folder, folder}});
  }
  command.max_address_space_bytes = confinement.max_address_space_bytes;
  worker.measures_many_ = confinement.measures_many;
  worker.on_gpu_ = confinement.gpu.has_value();
  NF_TRY(worker.process_, WorkerProcess::start(command));
  worker.running_ = true;
  return worker;
}

Result<const LoadedProblem*> ReferenceWorker::load(const std::string& path, const Json& overrides,
                                                   const Json& seeds) {
  const std::string key = key_of(path, overrides);
  if (serves_problem_ && loaded_key_ == key) return &loaded_;
  loaded_key_.clear();
  NF_RETURN_IF_ERROR(unload());
  process_.forget_output();
  serves_problem_ = true;
  LoadedProblem problem;
  problem.seeds = seeds;
  NF_TRY(problem.facts, ask({{"command", "load"},
                             {"on", on_gpu_ ? "gpu" : "cpu"},
                             {"problem", path},
                             {"overrides", overrides},
                             {"seeds", seeds}},
                            &problem.init_blob));
  loaded_ = std::move(problem);
  loaded_key_ = key;
  return &loaded_;
}

Status ReferenceWorker::unload() {
  loaded_key_.clear();
  if (!serves_problem_) return {};
  serves_problem_ = false;
  return ask({{"command", "unload"}}, nullptr).transform([](const Json&) {});
}

const ProblemMeasurement& ReferenceWorker::measure(const std::string& path, const Json& overrides) {
  std::string key = key_of(path, overrides);
  if (measured_key_ == key) return measurement_;
  measured_key_ = std::move(key);
  if (const Status unloaded = unload(); !unloaded) {
    return measurement_ = failed(SizeClass::kDoesNotBuild, unloaded.error().to_string());
  }
  process_.forget_output();
  const Json message = {
      {"command", "measure"}, {"problem", path}, {"overrides", overrides}, {"many", measures_many_}};
  const auto answer = process_.exchange(message, {}, std::chrono::seconds(kMeasureSeconds));
  if (!answer) {
    process_.kill();
    running_ = false;
    const bool late = answer.error() == ExchangeFailure::kTimeout;
    return measurement_ =
               late ? failed(SizeClass::kTooLargeForCpu,
                             "its sizes could not be had in " + std::to_string(kMeasureSeconds) + " s")
                    : failed(SizeClass::kDoesNotBuild,
                             "the process that builds it died: " + telling_line(process_.standard_error()));
  }
  serves_problem_ = true;
  if (answer->message.contains("error")) {
    const Json& failure = answer->message["error"];
    const bool memory = get<std::string>(failure, "class", "") == "memory";
    return measurement_ = failed(memory ? SizeClass::kTooLargeForMemory : SizeClass::kDoesNotBuild,
                                 telling_line(get<std::string>(failure, "text", "")));
  }
  return measurement_ = read_measurement(answer->message);
}

Result<Json> ReferenceWorker::ask(const Json& message, std::string* blob) {
  return ask(message, blob, kTimeout);
}

Result<Json> ReferenceWorker::ask_within(const Json& message, Clock::duration timeout) {
  return ask(message, nullptr, timeout);
}

Result<Json> ReferenceWorker::ask(const Json& message, std::string* blob, Clock::duration timeout) {
  auto answer = process_.exchange(message, {}, timeout);
  if (!answer) {
    process_.kill();
    running_ = false;
    return error(ErrorCode::kUnavailable, answer.error() == ExchangeFailure::kTimeout
                                              ? "the reference took longer than the limit"
                                              : "the reference's process died: " + process_.standard_error());
  }
  if (answer->message.contains("error")) {
    const bool memory = get<std::string>(answer->message["error"], "class", "") == "memory";
    return error(memory ? ErrorCode::kResourceExhausted : ErrorCode::kInvalidData,
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
