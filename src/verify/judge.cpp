#include "verify/judge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>

#include <nlohmann/json.hpp>
#include <sys/mman.h>
#include <unistd.h>

#include "base/rng.h"
#include "io/file.h"
#include "verify/arena.h"
#include "verify/evidence.h"
#include "verify/trial_plan.h"
#include "verify/worker_process.h"

namespace nemoforge::verify {
namespace {

using io::Json;
using std::chrono::seconds;

// Limits of PROTOCOL's kind: imports 30 s alone, more on a machine that verifies several at once; the first
// call 120 s; later calls ten times the first and some; everything together 300 s.
constexpr auto kStartTimeout = seconds(120);
constexpr auto kReferenceTimeout = seconds(240);
constexpr auto kLoadTimeout = seconds(60);
constexpr auto kFirstCallTimeout = seconds(120);
constexpr auto kCompileTimeout = seconds(120);
constexpr auto kTotalTimeout = seconds(300);
constexpr int64_t kMaxCpuSeconds = 400;
constexpr int64_t kMaxAddressSpace = int64_t{12} << 30;
constexpr int64_t kMaxTensorBytes = int64_t{1} << 30;
constexpr int64_t kOutputSlack = int64_t{1} << 16;
constexpr int kMaxKernels = 16;
constexpr int kMaxFailures = 3;
constexpr uint64_t kSeedMask = (uint64_t{1} << 48) - 1;

// Reads `key` as a number, a string, ... of a message that may be a candidate's: a wrong type is the default.
template <typename T>
T get(const Json& object, const char* key, T fallback) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || found == object.end()) return fallback;
  if constexpr (std::is_same_v<T, std::string>) {
    return found->is_string() ? found->template get<std::string>() : fallback;
  } else if constexpr (std::is_same_v<T, bool>) {
    return found->is_boolean() ? found->template get<bool>() : fallback;
  } else {
    return found->is_number() ? found->template get<T>() : fallback;
  }
}

const Json& array_of(const Json& object, const char* key) {
  static const Json kEmpty = Json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : kEmpty;
}

// Calls visit(leaf) for every tensor of a tree of arguments, in the order of their bytes.
template <typename Visit>
void for_each_tensor(Json& tree, const Visit& visit) {
  if (tree.contains("tensor")) return visit(tree);
  for (const char* nest : {"list", "tuple", "dict"}) {
    if (!tree.contains(nest)) continue;
    for (auto& item : tree[nest]) for_each_tensor(item, visit);
  }
}

std::vector<int64_t> tensor_sizes(Json& tree) {
  std::vector<int64_t> sizes;
  for_each_tensor(tree, [&](Json& leaf) { sizes.push_back(leaf["bytes"].get<int64_t>()); });
  return sizes;
}

template <typename T>
std::vector<T> take_values(std::string_view& blob, size_t count) {
  std::vector<T> values(count);
  std::memcpy(values.data(), blob.data(), count * sizeof(T));
  blob.remove_prefix(count * sizeof(T));
  return values;
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A trial as the reference made it.
struct PreparedTrial {
  Json inputs;
  std::string input_bytes;
  std::vector<int64_t> sizes;
  std::vector<ExpectedOutput> outputs;
  std::string dropped;  // why it says nothing, or empty
  double eager_rms = 0;
  double precision_floor = 0;
};

// Parameters of one instance as they go to the candidate.
struct StateTransfer {
  Json tensors = Json::array();
  std::string blob;
};

class Judge {
 public:
  Judge(const PythonEnvironment& python, const Sandbox& sandbox, std::string problem_path,
        std::string candidate_path, const Json& overrides)
      : python_(python),
        sandbox_(sandbox),
        problem_path_(std::move(problem_path)),
        candidate_path_(std::move(candidate_path)),
        overrides_(overrides),
        rng_(secret_seed()) {}

  Result<JudgeReport> run();

 private:
  // Steps; false: the candidate's evidence is complete as it is.
  Status start();
  Result<Json> ask_reference(Json message, std::string* blob);
  Status load_problem();
  Status size_arena();
  bool introduce_candidate();
  bool ask_candidate(const Json& message, std::string_view blob, Clock::duration timeout, const char* stage,
                     Json* reply, std::string* reply_blob = nullptr);
  void take_findings(const Json& reply);
  Result<bool> construct(int index, const Instance& instance);
  Result<StateTransfer> match_state(const Json& reference, std::string_view blob, const Json& candidate);
  Result<PreparedTrial> prepare(const Trial& trial);
  Result<bool> run_trial(const Trial& trial);
  bool call(const Trial& trial, const PreparedTrial& prepared, const InputSlot& slot, int slot_id);
  void judge_outputs(const Json& reply, const PreparedTrial& prepared, Call& call);
  void judge_output(const Json& output, const ExpectedOutput& expected, int64_t offset, Call& call);
  void look_at_kept_output();
  Result<bool> run_trials();
  void finish_candidate();
  void compile_kernels();
  void assemble(const std::string& ptx, CompiledKernel& kernel);
  void note_worker_failure(ExchangeFailure failure, const char* stage);
  [[nodiscard]] Clock::duration time_left(Clock::duration at_most) const;
  [[nodiscard]] JudgeReport conclude();
  [[nodiscard]] JudgeReport refuse(const std::string& name, const std::string& detail);
  uint64_t draw_seed() { return rng_.next_u64() & kSeedMask; }

  const PythonEnvironment& python_;
  const Sandbox& sandbox_;
  std::string problem_path_;
  std::string candidate_path_;
  const Json& overrides_;
  Rng rng_;
  Arena arena_;
  WorkerProcess reference_;
  WorkerProcess candidate_;
  Clock::time_point started_ = Clock::now();
  Evidence evidence_;
  Json record_ = Json::object();
  Json problem_;           // the reference's answer to load
  std::string init_blob_;  // bytes of the constructor's tensors
  int64_t slot_capacity_ = 0;
  int64_t output_offset_ = 0;
  int64_t output_room_ = 0;
  double seconds_per_call_ = 0;
  bool seed_only_ = false;
  // The trial before, for repeats.
  std::optional<PreparedTrial> previous_;
  int slot_ = 0;
  int kept_id_ = 0;
  std::vector<std::string> kept_bytes_;
  bool kept_waits_ = false;
  // Slots are tied to shapes: another shape in the same place is another slot to the candidate's process.
  std::map<std::string, int> slot_ids_;
};

Clock::duration Judge::time_left(Clock::duration at_most) const {
  return std::min<Clock::duration>(at_most, started_ + kTotalTimeout - Clock::now());
}

Status Judge::start() {
  NF_TRY(arena_, Arena::create());
  WorkerCommand reference;
  reference.argv = {python_.interpreter, "-E", "-s", python_.scripts + "/reference_worker.py"};
  reference.environment = {"PATH=/usr/bin:/bin",     "HOME=/tmp",
                           "LC_ALL=C.UTF-8",         "OMP_NUM_THREADS=1",
                           "OPENBLAS_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1",
                           "CUDA_VISIBLE_DEVICES=",  "TORCH_CPP_LOG_LEVEL=FATAL"};
  NF_TRY(reference_, WorkerProcess::start(reference));
  WorkerCommand candidate =
      sandbox_.wrap({python_.interpreter, "-u", "-E", "-s", python_.scripts + "/candidate_worker.py"},
                    python_, {{candidate_path_, candidate_path_}});
  candidate.shared_fd = arena_.fd();
  candidate.max_address_space_bytes = kMaxAddressSpace;
  candidate.max_cpu_seconds = kMaxCpuSeconds;
  NF_TRY(candidate_, WorkerProcess::start(candidate));
  return {};
}

// The reference is trusted: an answer that does not come or says error is no statement about the candidate.
Result<Json> Judge::ask_reference(Json message, std::string* blob) {
  auto answer = reference_.exchange(message, {}, kReferenceTimeout);
  if (!answer) {
    reference_.kill();
    return error(ErrorCode::kUnavailable,
                 answer.error() == ExchangeFailure::kTimeout
                     ? "the reference took longer than the limit"
                     : "the reference's process died: " + reference_.standard_error());
  }
  if (answer->message.contains("error")) {
    return error(ErrorCode::kInvalidData,
                 "the problem: " + get<std::string>(answer->message["error"], "text", ""));
  }
  if (blob != nullptr) *blob = std::move(answer->blob);
  return std::move(answer->message);
}

Status Judge::load_problem() {
  Json seeds = Json::array();
  for (int i = 0; i < 8; ++i) seeds.push_back(draw_seed());
  record_["seeds"]["gate"] = seeds;
  NF_TRY(problem_,
         ask_reference(
             {{"command", "load"}, {"problem", problem_path_}, {"overrides", overrides_}, {"seeds", seeds}},
             &init_blob_));
  // Those that were asked for, or smaller numbers of rows where the problem is too large for the interpreter.
  record_["overrides"] = problem_["overrides"];
  record_["problem"] = {{"gate", problem_["gate"]},
                        {"null_margins", problem_["null_margins"]},
                        {"parameters", problem_["parameters"]},
                        {"operators", problem_["operators"]},
                        {"evaluate", problem_["evaluate"]}};
  for (const auto& [name, count] : problem_["operators"].items()) {
    evidence_.reference_operators[name] = count.get<int64_t>();
    if (operator_kind(name) == OperatorKind::kRandom) evidence_.reference_is_random = true;
  }
  evidence_.reference_mutates_inputs = get(problem_["gate"], "mutates_inputs", false);
  evidence_.reference_returns_input =
      std::all_of(evidence_.reference_operators.begin(), evidence_.reference_operators.end(),
                  [](const auto& entry) { return operator_kind(entry.first) == OperatorKind::kLayout; });
  return {};
}

// The arena's size follows from one trial: every trial has the same shapes, or is dropped.
Status Judge::size_arena() {
  NF_RETURN_IF_ERROR(ask_reference({{"command", "construct"}, {"model", 0}, {"seed", draw_seed()}}, nullptr));
  NF_TRY(PreparedTrial trial, prepare({.kind = "plain", .instance = 0, .seed = draw_seed()}));
  const InputSlot slot(0, trial.sizes);
  int64_t output_bytes = 0;
  for (const ExpectedOutput& output : trial.outputs) {
    const size_t count = output.floating ? output.oracle.size() : output.exact.size();
    output_bytes += static_cast<int64_t>(count) * element_bytes(output.dtype);
  }
  slot_capacity_ = slot.end() + 4096;
  output_offset_ = 2 * slot_capacity_;
  output_room_ = output_bytes + kOutputSlack;
  if (output_offset_ + output_room_ > kMaxTensorBytes) {
    return error(ErrorCode::kResourceExhausted, "the problem's tensors are too large for the interpreter",
                 "give smaller sizes with --overrides");
  }
  return arena_.set_size(output_offset_ + output_room_ + 4096);
}

void Judge::note_worker_failure(ExchangeFailure failure, const char* stage) {
  evidence_.worker_failure = failure;
  evidence_.worker_failure_stage = stage;
  evidence_.exit = candidate_.kill();
}

void Judge::take_findings(const Json& reply) {
  for (const Json& finding : array_of(reply, "findings")) {
    evidence_.findings.push_back(
        {get<std::string>(finding, "kind", ""), get<std::string>(finding, "detail", "")});
  }
  for (const Json& patch : array_of(reply, "walk")) {
    if (!patch.is_array() || patch.size() != 2 || !patch[0].is_string() || !patch[1].is_string()) continue;
    evidence_.findings.push_back({patch[0].get<std::string>(), patch[1].get<std::string>()});
  }
}

// False where the candidate's process failed or reports an exception: both are in the evidence then.
bool Judge::ask_candidate(const Json& message, std::string_view blob, Clock::duration timeout,
                          const char* stage, Json* reply, std::string* reply_blob) {
  auto answer = candidate_.exchange(message, blob, time_left(timeout), static_cast<size_t>(64) << 20);
  if (!answer) {
    note_worker_failure(answer.error(), stage);
    return false;
  }
  take_findings(answer->message);
  *reply = std::move(answer->message);
  if (reply_blob != nullptr) *reply_blob = std::move(answer->blob);
  const auto failure = reply->find("error");
  if (failure == reply->end() || !failure->is_object()) return true;
  evidence_.errors.push_back(
      {stage, get<std::string>(*failure, "class", ""), get<std::string>(*failure, "text", ""),
       get<std::string>(*failure, "cause_class", ""), get<std::string>(*failure, "line_text", ""),
       get(*failure, "in_kernel", false)});
  return false;
}

bool Judge::introduce_candidate() {
  Json roots = python_.readable_paths;
  roots.push_back(python_.scripts);
  for (const char* root : {"/usr/", "/lib", "/etc/ld.so", "/dev/null", "/dev/urandom", "/tmp/t/"})
    roots.push_back(root);
  const size_t slash = candidate_path_.rfind('/');
  const std::string module = candidate_path_.substr(slash + 1, candidate_path_.size() - slash - 4);
  // A convolution's baseline on a GPU is itself of the TF32 class.
  const bool convolves =
      std::any_of(evidence_.reference_operators.begin(), evidence_.reference_operators.end(),
                  [](const auto& entry) { return operator_class(entry.first) == "convolution"; });
  Json reply;
  if (!ask_candidate({{"candidate", candidate_path_},
                      {"module", module},
                      {"trusted_roots", roots},
                      {"emulate_tf32", !convolves},
                      {"arena_bytes", arena_.size()}},
                     {}, kStartTimeout, "start", &reply)) {
    return false;
  }
  record_["versions"] = reply;
  if (!ask_candidate({{"command", "examine"}}, {}, kLoadTimeout, "parse", &reply)) return false;
  evidence_.syntax_error = get<std::string>(reply, "syntax_error", "");
  for (const Json& fact : array_of(reply, "facts")) {
    evidence_.findings.push_back({get<std::string>(fact, "kind", ""), get<std::string>(fact, "detail", "")});
  }
  if (!evidence_.syntax_error.empty()) return false;
  return ask_candidate({{"command", "load"}}, {}, kLoadTimeout, "load", &reply);
}

// Pairs the reference's state with the candidate's: by name where the sizes agree, else by equal content
// (both were made under one seed), the last part of the name deciding between equals.
Result<StateTransfer> Judge::match_state(const Json& reference, std::string_view blob,
                                         const Json& candidate) {
  StateTransfer transfer;
  std::vector<bool> taken(candidate.size(), false);
  const auto tail = [](const std::string& key) { return key.substr(key.rfind('.') + 1); };
  const auto numel = [](const Json& tensor) {
    int64_t count = 1;
    for (const Json& size : array_of(tensor, "shape"))
      count *= size.is_number_integer() ? size.get<int64_t>() : 0;
    return count;
  };
  size_t offset = 0;
  for (const Json& tensor : reference) {
    const auto key = get<std::string>(tensor, "key", "");
    const auto bytes = get<size_t>(tensor, "bytes", 0);
    int best = -1;
    int best_rank = 0;
    for (size_t i = 0; i < candidate.size(); ++i) {
      if (taken[i] || numel(candidate[i]) != numel(tensor)) continue;
      if (get<std::string>(candidate[i], "dtype", "") != get<std::string>(tensor, "tensor", "")) continue;
      const auto other = get<std::string>(candidate[i], "key", "");
      const bool equal =
          get<std::string>(candidate[i], "digest", "") == get<std::string>(tensor, "digest", "-");
      const int rank = other == key ? 3 : (equal ? (tail(other) == tail(key) ? 2 : 1) : 0);
      if (rank > best_rank) {
        best = static_cast<int>(i);
        best_rank = rank;
      }
    }
    const Json& facts = problem_["parameters"].value(key, Json::object());
    if (best >= 0) {
      taken[static_cast<size_t>(best)] = true;
      Json leaf = tensor;
      leaf["key"] = candidate[static_cast<size_t>(best)]["key"];
      transfer.tensors.push_back(std::move(leaf));
      transfer.blob.append(blob.substr(offset, bytes));
    } else if (get(facts, "matters", true)) {
      seed_only_ = true;
      const bool has_room = std::any_of(candidate.begin(), candidate.end(),
                                        [&](const Json& other) { return numel(other) == numel(tensor); });
      if (get(facts, "constant", false) && !has_room) evidence_.missing_parameter = key;
    }
    offset += bytes;
  }
  return transfer;
}

// Makes instance `index` in both processes. False: the candidate failed.
Result<bool> Judge::construct(int index, const Instance& instance) {
  Json request = {{"command", "construct"}, {"model", index}, {"seed", instance.seed}};
  if (instance.perturb) request["perturb"] = *instance.perturb;
  std::string blob;
  NF_TRY(const Json reference, ask_reference(request, &blob));
  Json reply;
  if (!ask_candidate({{"command", "construct"},
                      {"instance", index},
                      {"seed", instance.seed},
                      {"evaluate", problem_["evaluate"]},
                      {"init", problem_["init"]}},
                     init_blob_, kFirstCallTimeout, "construct", &reply)) {
    return false;
  }
  slot_ids_.clear();
  NF_TRY(const StateTransfer transfer,
         match_state(array_of(reference, "state"), blob, array_of(reply, "state")));
  if (!instance.perturb || transfer.tensors.empty()) return true;
  return ask_candidate({{"command", "set_state"}, {"instance", index}, {"tensors", transfer.tensors}},
                       transfer.blob, kLoadTimeout, "construct", &reply);
}

Result<PreparedTrial> Judge::prepare(const Trial& trial) {
  const bool asks_precision = trial.kind == "normal";
  std::string blob;
  NF_TRY(Json reply, ask_reference({{"command", "trial"},
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

void Judge::judge_output(const Json& output, const ExpectedOutput& expected, int64_t offset, Call& call) {
  const auto defect = [&](OutputDefect kind, std::string detail) {
    if (call.defect != OutputDefect::kNone) return;
    call.defect = kind;
    call.defect_detail = std::move(detail);
  };
  if (output.contains("not_a_tensor")) {
    const auto type = get<std::string>(output, "not_a_tensor", "");
    return defect(get(output, "is_subclass", false) ? OutputDefect::kLazy : OutputDefect::kCount,
                  "an output is a " + type + ", not a torch.Tensor");
  }
  const auto dtype = get<std::string>(output, "dtype", "");
  if (dtype != expected.dtype) return defect(OutputDefect::kDtype, dtype + " for " + expected.dtype);
  if (get<std::string>(output, "device", "") != "cpu")
    return defect(OutputDefect::kDevice, "not where the inputs are");
  if (Json(array_of(output, "shape")) != Json(expected.shape)) {
    return defect(OutputDefect::kShape,
                  io::dump_json(array_of(output, "shape")) + " for " + io::dump_json(Json(expected.shape)));
  }
  const size_t count = expected.floating ? expected.oracle.size() : expected.exact.size();
  const int64_t size = static_cast<int64_t>(count) * element_bytes(expected.dtype);
  if (!get(output, "delivered", false))
    return defect(OutputDefect::kNotDelivered, "an output was not delivered");
  const auto comparison = compare_output(expected, arena_.at(offset, size));
  if (!comparison) return defect(OutputDefect::kNotDelivered, comparison.error().message);
  call.values_right = call.values_right && comparison->num_bad == 0;
  call.comparisons.push_back(*comparison);
  call.output_from_kernel = call.output_from_kernel && (get(output, "from_kernel", false) || count == 0);
  call.output_from_earlier = call.output_from_earlier ||
                             (get(output, "ever_from_kernel", false) && !get(output, "from_kernel", false));
  call.output_changed_unseen = call.output_changed_unseen || get(output, "changed_unseen", false) ||
                               !get(output, "known_memory", false);
  call.output_is_input = call.output_is_input || get(output, "aliases_input", false);
}

void Judge::judge_outputs(const Json& reply, const PreparedTrial& prepared, Call& call) {
  const Json& outputs = array_of(reply, "outputs");
  call.values_right = true;
  if (outputs.size() != prepared.outputs.size()) {
    call.defect = OutputDefect::kCount;
    call.defect_detail =
        std::to_string(outputs.size()) + " outputs for " + std::to_string(prepared.outputs.size());
    for (const Json& output : outputs) {
      if (get(output, "is_subclass", false)) call.defect = OutputDefect::kLazy;
    }
    return;
  }
  int64_t offset = output_offset_;
  for (size_t i = 0; i < outputs.size(); ++i) {
    judge_output(outputs[i], prepared.outputs[i], offset, call);
    if (call.defect != OutputDefect::kNone) return;
    offset += get<int64_t>(outputs[i], "bytes", 0);
    if (offset > output_offset_ + output_room_) {
      call.defect = OutputDefect::kNotDelivered;
      return;
    }
  }
}

Call read_call(const Trial& trial, const Json& reply) {
  Call call;
  call.kind = trial.kind;
  call.instance = trial.instance;
  call.repeats_content = trial.repeats_previous;
  call.num_launches = get<int64_t>(reply, "num_launches", 0);
  call.num_failed_launches = get<int64_t>(reply, "num_failed_launches", 0);
  call.seconds = get(reply, "seconds", 0.0);
  for (const Json& launch : array_of(reply, "launches")) {
    call.launch_digests.push_back(get<std::string>(launch, "kernel", "") + "@" +
                                  get<std::string>(launch, "digest", ""));
  }
  call.host_data = io::dump_json(array_of(reply, "host_data"));
  for (const Json& entry : array_of(reply, "operators")) {
    if (!entry.is_array() || entry.size() != 4 || !entry[0].is_string() || !entry[1].is_boolean() ||
        !entry[2].is_boolean() || !entry[3].is_number_integer()) {
      continue;
    }
    OperatorCounts& counts = entry[2].get<bool>() ? call.kernel_operators : call.operators;
    if (entry[1].get<bool>() || operator_kind(entry[0].get<std::string>()) == OperatorKind::kRandom) {
      counts[entry[0].get<std::string>()] += entry[3].get<int64_t>();
    }
  }
  for (const Json& name : array_of(reply, "hidden_operators")) {
    if (name.is_string()) call.hidden_operators.push_back(name.get<std::string>());
  }
  return call;
}

// One call with everything that is checked around it. False: the candidate failed.
bool Judge::call(const Trial& trial, const PreparedTrial& prepared, const InputSlot& slot, int slot_id) {
  Json inputs = prepared.inputs;
  size_t index = 0;
  for_each_tensor(inputs, [&](Json& leaf) { leaf["offset"] = slot.tensors()[index++].offset; });
  const auto output_area = arena_.at(output_offset_, output_room_);
  std::fill(output_area.begin(), output_area.end(), std::byte{0xFF});
  const bool is_first = seconds_per_call_ == 0;
  const auto timeout = is_first ? std::chrono::duration_cast<Clock::duration>(kFirstCallTimeout)
                                : std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(30 + 10 * seconds_per_call_));
  const int keep = trial.keep && !kept_waits_ ? ++kept_id_ : 0;
  const Clock::time_point begin = Clock::now();
  Json reply;
  const bool answered = ask_candidate({{"command", "call"},
                                       {"instance", trial.instance},
                                       {"slot", slot_id},
                                       {"inputs", inputs},
                                       {"shuffle", trial.shuffle},
                                       {"record_accesses", trial.record_accesses},
                                       {"profile", trial.profile},
                                       {"output_offset", output_offset_},
                                       {"output_bytes", output_room_},
                                       {"keep", keep}},
                                      {}, timeout, "call", &reply);
  if (!answered) return false;
  // By the judge's own clock.
  const double took = std::chrono::duration<double>(Clock::now() - begin).count();
  if (is_first) seconds_per_call_ = std::max(took, 1e-6);
  Call seen = read_call(trial, reply);
  seen.seconds = took;
  seen.eager_rms = prepared.eager_rms;
  seen.precision_floor = prepared.precision_floor;
  seen.inputs_changed = !slot.inputs_intact(arena_, prepared.input_bytes);
  seen.guards_changed = !slot.guards_intact(arena_);
  judge_outputs(reply, prepared, seen);
  evidence_.calls.push_back(std::move(seen));
  if (kept_waits_ && !trial.repeats_previous) look_at_kept_output();
  if (keep != 0 && evidence_.calls.back().defect == OutputDefect::kNone) {
    kept_bytes_ = {text_of(arena_.at(output_offset_, output_room_ - kOutputSlack))};
    kept_waits_ = true;
  }
  return evidence_.worker_failure == std::nullopt;
}

void Judge::look_at_kept_output() {
  kept_waits_ = false;
  const auto output_area = arena_.at(output_offset_, output_room_);
  std::fill(output_area.begin(), output_area.end(), std::byte{0xFF});
  Json reply;
  if (!ask_candidate({{"command", "copy_kept"},
                      {"keep", kept_id_},
                      {"output_offset", output_offset_},
                      {"output_bytes", output_room_}},
                     {}, kLoadTimeout, "call", &reply)) {
    return;
  }
  evidence_.calls.back().kept_output_changed =
      text_of(arena_.at(output_offset_, output_room_ - kOutputSlack)) != kept_bytes_.front();
}

// False: the candidate failed. A trial that the reference drops changes nothing.
Result<bool> Judge::run_trial(const Trial& trial) {
  if (!trial.repeats_previous) {
    NF_TRY(PreparedTrial prepared, prepare(trial));
    if (!prepared.dropped.empty()) {
      record_["dropped"].push_back({{"kind", trial.kind}, {"why", prepared.dropped}});
      return true;
    }
    previous_ = std::move(prepared);
    slot_ = static_cast<int>(rng_.below(2));
  } else if (!previous_) {
    return true;
  } else if (trial.other_slot) {
    slot_ = 1 - slot_;
  }
  const InputSlot slot(slot_ * slot_capacity_, previous_->sizes);
  if (slot.end() > (slot_ + 1) * slot_capacity_) return true;
  slot.fill(arena_, previous_->input_bytes);
  const std::string shape = std::to_string(slot_) + io::dump_json(previous_->inputs);
  const int slot_id = slot_ids_.emplace(shape, static_cast<int>(slot_ids_.size())).first->second;
  return call(trial, *previous_, slot, slot_id);
}

Result<bool> Judge::run_trials() {
  const uint64_t first_seed = draw_seed();
  NF_TRY(const bool constructed, construct(0, {first_seed, std::nullopt}));
  if (!constructed) return false;
  NF_TRY(const bool called,
         run_trial({.kind = "plain", .instance = 0, .seed = draw_seed(), .record_accesses = true}));
  if (!called) return false;
  PlanFacts facts;
  facts.seed = draw_seed();
  for (const Json& kind : problem_["gate"]["kept"]) facts.kinds.push_back(kind.get<std::string>());
  facts.has_parameters = !problem_["parameters"].empty() && !seed_only_;
  for (const Json& seed : problem_["kernelbench_seeds"])
    facts.kernelbench_seeds.push_back(seed.get<uint64_t>());
  facts.seconds_per_call = seconds_per_call_;
  const Plan plan = make_plan(facts, first_seed);
  for (const Instance& instance : plan.instances) {
    record_["seeds"]["instances"].push_back(
        {{"seed", instance.seed}, {"perturb", instance.perturb ? Json(*instance.perturb) : Json()}});
  }
  for (size_t i = 1; i < plan.instances.size(); ++i) {
    NF_TRY(const bool made, construct(static_cast<int>(i), plan.instances[i]));
    if (!made) return false;
  }
  for (const Trial& trial : plan.trials) {
    record_["seeds"]["trials"].push_back({{"kind", trial.kind},
                                          {"instance", trial.instance},
                                          {"seed", trial.seed},
                                          {"shuffle", trial.shuffle}});
    NF_TRY(const bool went_on, run_trial(trial));
    if (!went_on) return false;
    const auto failures = std::count_if(evidence_.calls.begin(), evidence_.calls.end(), [](const Call& call) {
      return !call.values_right || call.defect != OutputDefect::kNone;
    });
    if (failures >= kMaxFailures) break;
    if (time_left(kTotalTimeout) < kCompileTimeout / 2) break;
  }
  return true;
}

void Judge::assemble(const std::string& ptx, CompiledKernel& kernel) {
  const int fd = memfd_create("ptx", MFD_CLOEXEC);
  if (fd < 0 || write(fd, ptx.data(), ptx.size()) != static_cast<ssize_t>(ptx.size()) ||
      lseek(fd, 0, SEEK_SET) != 0) {
    kernel.error = "the assembler could not be given the kernel";
  } else {
    WorkerCommand command = sandbox_.wrap(
        {python_.ptxas, "--gpu-name=sm_90a", "--verbose", "/dev/stdin", "--output-file", "/dev/null"},
        python_, {});
    command.stdin_fd = fd;
    command.max_cpu_seconds = 120;
    auto process = WorkerProcess::start(command);
    const auto status =
        process ? process->wait(kCompileTimeout)
                : tl::expected<ExitStatus, ExchangeFailure>(tl::unexpected(ExchangeFailure::kDied));
    if (!status || status->signalled || status->code != 0) {
      kernel.error =
          "ptxas: " + (process ? process->standard_error().substr(0, 1000) : process.error().message);
    }
  }
  if (fd >= 0) close(fd);
}

void Judge::compile_kernels() {
  Json reply;
  std::string blob;
  if (!ask_candidate({{"command", "compile"}, {"max_kernels", kMaxKernels}}, {}, kCompileTimeout, "compile",
                     &reply, &blob)) {
    return;
  }
  size_t offset = 0;
  for (const Json& entry : array_of(reply, "kernels")) {
    CompiledKernel kernel;
    kernel.name = get<std::string>(entry, "kernel", "");
    kernel.error = get<std::string>(entry, "error", "");
    kernel.foreign_call = get<std::string>(entry, "error_class", "") == "foreign_call";
    kernel.shared_bytes = get<int64_t>(entry, "shared_bytes", 0);
    const auto bytes = get<size_t>(entry, "bytes", 0);
    if (kernel.error.empty()) {
      if (bytes == 0 || bytes > blob.size() - offset) {
        kernel.error = "no assembly came";
      } else {
        assemble(blob.substr(offset, bytes), kernel);
      }
    }
    offset += std::min(bytes, blob.size() - offset);
    evidence_.kernels.push_back(std::move(kernel));
  }
}

void Judge::finish_candidate() {
  if (!evidence_.worker_failure && evidence_.syntax_error.empty()) {
    Json reply;
    ask_candidate({{"command", "walk"}}, {}, kLoadTimeout, "observe", &reply);
  }
  const bool launched = std::any_of(evidence_.calls.begin(), evidence_.calls.end(),
                                    [](const Call& call) { return call.num_launches > 0; }) ||
                        std::any_of(evidence_.errors.begin(), evidence_.errors.end(),
                                    [](const CandidateError& failure) { return failure.in_kernel; });
  if (!evidence_.worker_failure && launched) compile_kernels();
  if (!evidence_.worker_failure) candidate_.kill();
  evidence_.standard_output = candidate_.standard_output();
  evidence_.standard_error = candidate_.standard_error();
}

JudgeReport Judge::refuse(const std::string& name, const std::string& detail) {
  JudgeReport report;
  report.judgement.name = name;
  report.judgement.stage = "problem";
  report.judgement.detail = detail;
  report.record = std::move(record_);
  return report;
}

Json describe(const Call& call) {
  Json described = {{"kind", call.kind},
                    {"instance", call.instance},
                    {"right", call.values_right},
                    {"seconds", call.seconds},
                    {"launches", call.num_launches}};
  for (const Comparison& comparison : call.comparisons) {
    described["outputs"].push_back({{"bad", comparison.num_bad},
                                    {"worst_ratio", std::min(comparison.worst_ratio, 1e300)},
                                    {"worst_idx", comparison.worst_idx},
                                    {"rms_error", comparison.rms_error}});
  }
  return described;
}

JudgeReport Judge::conclude() {
  evidence_.seed_only_weights = seed_only_;
  JudgeReport report;
  report.judgement = decide(evidence_);
  bool kernelbench_1e4 = true;
  bool kernelbench_1e2 = true;
  for (const Call& call : evidence_.calls) {
    record_["calls"].push_back(describe(call));
    if (call.kind != "kernelbench") continue;
    for (const Comparison& comparison : call.comparisons) {
      kernelbench_1e4 = kernelbench_1e4 && comparison.kernelbench_1e4;
      kernelbench_1e2 = kernelbench_1e2 && comparison.kernelbench_1e2;
    }
  }
  record_["kernelbench"] = {{"allclose_1e-4", kernelbench_1e4}, {"allclose_1e-2", kernelbench_1e2}};
  for (const CompiledKernel& kernel : evidence_.kernels) {
    record_["kernels"].push_back(
        {{"name", kernel.name}, {"error", kernel.error}, {"shared_bytes", kernel.shared_bytes}});
  }
  for (const CandidateError& failure : evidence_.errors) {
    record_["errors"].push_back({{"stage", failure.stage},
                                 {"class", failure.class_name},
                                 {"text", failure.text},
                                 {"line", failure.line_text}});
  }
  if (!evidence_.calls.empty()) {
    Json operators = Json::object();
    for (const auto& [name, count] : evidence_.calls.back().operators) operators[name] = count;
    record_["operators"] = std::move(operators);
    record_["launches"] = evidence_.calls.back().launch_digests;
  }
  record_["stdout"] = evidence_.standard_output;
  record_["stderr"] = evidence_.standard_error;
  report.record = std::move(record_);
  return report;
}

Result<JudgeReport> Judge::run() {
  NF_RETURN_IF_ERROR(start());
  if (const Status loaded = load_problem(); !loaded)
    return refuse("not_verified", loaded.error().to_string());
  const Json& gate = problem_["gate"];
  if (get(gate, "stochastic", false)) {
    return refuse("not_verified", "the reference gives another answer each time it is asked");
  }
  if (gate["degenerate"].is_string()) {
    return refuse("problem_degenerate",
                  gate["degenerate"].get<std::string>() + " passes on every distribution");
  }
  if (const Status sized = size_arena(); !sized) return refuse("not_verified", sized.error().to_string());
  if (introduce_candidate()) {
    const auto went_on = run_trials();
    if (!went_on) return refuse("not_verified", went_on.error().to_string());
  }
  finish_candidate();
  return conclude();
}

}  // namespace

Result<JudgeReport> judge_candidate(const PythonEnvironment& python, const Sandbox& sandbox,
                                    const std::string& problem_path, const std::string& candidate_path,
                                    const Json& overrides) {
  Judge judge(python, sandbox, problem_path, candidate_path, overrides);
  return judge.run();
}

}  // namespace nemoforge::verify
