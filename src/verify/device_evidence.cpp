#include "verify/device_evidence.h"

#include <string>

#include "verify/worker_message.h"

namespace nemoforge::verify {
namespace {

using io::Json;

void set_defect(Call& call, OutputDefect kind, std::string detail) {
  if (call.defect != OutputDefect::kNone) return;
  call.defect = kind;
  call.defect_detail = std::move(detail);
}

void check_output(const Json& output, const Json& expected, Call& call) {
  if (output.contains("not_a_tensor")) {
    const auto type = get<std::string>(output, "not_a_tensor", "");
    return set_defect(call, get(output, "is_subclass", false) ? OutputDefect::kLazy : OutputDefect::kCount,
                      "an output is a " + type + ", not a torch.Tensor");
  }
  const auto dtype = get<std::string>(output, "dtype", "");
  const auto right_dtype = get<std::string>(expected, "dtype", "");
  if (dtype != right_dtype) return set_defect(call, OutputDefect::kDtype, dtype + " for " + right_dtype);
  if (get<std::string>(output, "device", "") != "cuda") {
    return set_defect(call, OutputDefect::kDevice, "not where the inputs are");
  }
  if (Json(array_of(output, "shape")) != Json(array_of(expected, "shape"))) {
    return set_defect(
        call, OutputDefect::kShape,
        io::dump_json(array_of(output, "shape")) + " for " + io::dump_json(array_of(expected, "shape")));
  }
  if (!get(output, "delivered", false)) {
    return set_defect(call, OutputDefect::kNotDelivered, "an output was not delivered");
  }
}

Comparison read_comparison(const Json& entry) {
  Comparison comparison;
  comparison.num_elements = get<int64_t>(entry, "elements", 0);
  comparison.num_bad = get<int64_t>(entry, "bad", 1);
  comparison.tolerance = get(entry, "tolerance", 0.0);
  comparison.worst_idx = get<int64_t>(entry, "worst_idx", -1);
  comparison.worst_value = get(entry, "worst_value", 0.0);
  comparison.worst_expected = get(entry, "worst_expected", 0.0);
  comparison.worst_ratio = get(entry, "worst_ratio", 0.0);
  comparison.rms_error = get(entry, "rms_error", 0.0);
  comparison.kernelbench_1e4 = get(entry, "kernelbench_1e4", false);
  comparison.kernelbench_1e2 = get(entry, "kernelbench_1e2", false);
  return comparison;
}

}  // namespace

bool check_form(const Json& reply, const Json& expected, Call& call) {
  const Json& outputs = array_of(reply, "outputs");
  if (outputs.size() != expected.size()) {
    set_defect(call, OutputDefect::kCount,
               std::to_string(outputs.size()) + " outputs for " + std::to_string(expected.size()));
    for (const Json& output : outputs) {
      if (get(output, "is_subclass", false)) call.defect = OutputDefect::kLazy;
    }
    return false;
  }
  for (size_t i = 0; i < outputs.size(); ++i) check_output(outputs[i], expected[i], call);
  return call.defect == OutputDefect::kNone;
}

void judge_device_outputs(const Json& reply, const Json& expected, const Json& comparison, Call& call) {
  const Json& outputs = array_of(reply, "outputs");
  const Json& compared = array_of(comparison, "outputs");
  call.values_right = compared.size() == expected.size();
  for (size_t i = 0; i < compared.size(); ++i) {
    call.comparisons.push_back(read_comparison(compared[i]));
    const Comparison& found = call.comparisons.back();
    call.values_right = call.values_right && found.num_bad == 0;
    if (i >= outputs.size()) continue;
    const Json& output = outputs[i];
    call.output_from_kernel =
        call.output_from_kernel && (get(output, "from_kernel", false) || found.num_elements == 0);
    call.output_from_earlier = call.output_from_earlier ||
                               (get(output, "ever_from_kernel", false) && !get(output, "from_kernel", false));
    call.output_changed_unseen = call.output_changed_unseen || !get(output, "known_memory", false);
    call.output_is_input = call.output_is_input || get(output, "aliases_input", false);
  }
  call.inputs_changed = get(comparison, "inputs_changed", false);
  call.guards_changed = get(comparison, "guards_changed", false);
}

}  // namespace nemoforge::verify
