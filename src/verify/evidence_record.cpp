#include "verify/evidence_record.h"

#include <algorithm>
#include <utility>

namespace nemoforge::verify {
namespace {

using io::Json;

Json describe(const Call& call) {
  Json described = {{"kind", call.kind},
                    {"instance", call.instance},
                    {"right", call.values_right},
                    {"seconds", call.seconds},
                    {"launches", call.num_launches}};
  for (const Comparison& comparison : call.comparisons) {
    described["outputs"].push_back({{"bad", comparison.num_bad},
                                    {"tolerance", comparison.tolerance},
                                    {"worst_ratio", std::min(comparison.worst_ratio, 1e300)},
                                    {"worst_idx", comparison.worst_idx},
                                    {"rms_error", comparison.rms_error}});
  }
  return described;
}

}  // namespace

void add_evidence(const Evidence& evidence, Json& record) {
  bool kernelbench_1e4 = true;
  bool kernelbench_1e2 = true;
  for (const Call& call : evidence.calls) {
    record["calls"].push_back(describe(call));
    if (call.kind != "kernelbench") continue;
    for (const Comparison& comparison : call.comparisons) {
      kernelbench_1e4 = kernelbench_1e4 && comparison.kernelbench_1e4;
      kernelbench_1e2 = kernelbench_1e2 && comparison.kernelbench_1e2;
    }
  }
  record["kernelbench"] = {{"allclose_1e-4", kernelbench_1e4}, {"allclose_1e-2", kernelbench_1e2}};
  for (const CompiledKernel& kernel : evidence.kernels) {
    record["kernels"].push_back(
        {{"name", kernel.name}, {"error", kernel.error}, {"shared_bytes", kernel.shared_bytes}});
  }
  for (const CandidateError& failure : evidence.errors) {
    record["errors"].push_back({{"stage", failure.stage},
                                {"class", failure.class_name},
                                {"text", failure.text},
                                {"line", failure.line_text}});
  }
  if (!evidence.calls.empty()) {
    Json operators = Json::object();
    for (const auto& [name, count] : evidence.calls.back().operators) operators[name] = count;
    record["operators"] = std::move(operators);
    record["launches"] = evidence.calls.back().launch_digests;
  }
  record["stdout"] = evidence.standard_output;
  record["stderr"] = evidence.standard_error;
}

}  // namespace nemoforge::verify
