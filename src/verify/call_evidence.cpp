#include "verify/call_evidence.h"

#include <string>

#include "verify/operator_policy.h"
#include "verify/worker_message.h"

namespace nemoforge::verify {
namespace {

using io::Json;

// `bytes`: what stands where this output was to be delivered.
void judge_output(const Json& output, const ExpectedOutput& expected, std::span<const std::byte> bytes,
                  Call& call) {
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
  if (!get(output, "delivered", false))
    return defect(OutputDefect::kNotDelivered, "an output was not delivered");
  const auto comparison = compare_output(expected, bytes);
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

}  // namespace

int64_t output_bytes(const ExpectedOutput& expected) {
  const size_t count = expected.floating ? expected.oracle.size() : expected.exact.size();
  return static_cast<int64_t>(count) * element_bytes(expected.dtype);
}

void judge_outputs(const Json& reply, const std::vector<ExpectedOutput>& expected,
                   std::span<const std::byte> delivered, Call& call) {
  const Json& outputs = array_of(reply, "outputs");
  call.values_right = true;
  if (outputs.size() != expected.size()) {
    call.defect = OutputDefect::kCount;
    call.defect_detail = std::to_string(outputs.size()) + " outputs for " + std::to_string(expected.size());
    for (const Json& output : outputs) {
      if (get(output, "is_subclass", false)) call.defect = OutputDefect::kLazy;
    }
    return;
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto size = static_cast<size_t>(output_bytes(expected[i]));
    if (size > delivered.size()) {
      call.defect = OutputDefect::kNotDelivered;
      return;
    }
    judge_output(outputs[i], expected[i], delivered.first(size), call);
    if (call.defect != OutputDefect::kNone) return;
    delivered = delivered.subspan(size);
  }
}

Call read_call(const Trial& trial, const Json& reply) {
  Call call;
  call.kind = trial.kind;
  call.instance = trial.instance;
  call.repeats_content = trial.repeats_previous;
  call.num_launches = get<int64_t>(reply, "num_launches", 0);
  call.num_failed_launches = get<int64_t>(reply, "num_failed_launches", 0);
  call.num_on_side_streams = get<int64_t>(reply, "num_on_side_streams", 0);
  call.seconds = get(reply, "seconds", 0.0);
  for (const Json& launch : array_of(reply, "launches")) {
    call.launch_digests.push_back(get<std::string>(launch, "kernel", "") + "@" +
                                  get<std::string>(launch, "digest", ""));
  }
  call.host_data = get<std::string>(reply, "host_data", "");
  call.operator_trace = get<std::string>(reply, "operator_trace", "");
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

}  // namespace nemoforge::verify
