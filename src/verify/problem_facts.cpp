#include "verify/problem_facts.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "verify/operator_policy.h"
#include "verify/worker_message.h"

namespace nemoforge::verify {

io::Json problem_record(const io::Json& facts) {
  io::Json record = io::Json::object();
  for (const char* key : {"gate", "gate_overrides", "null_margins", "parameters", "operators", "evaluate"}) {
    const auto found = facts.find(key);
    record[key] = found == facts.end() ? io::Json() : *found;
  }
  return record;
}

void note_reference(const io::Json& facts, Evidence& evidence) {
  const io::Json operators = facts.value("operators", io::Json::object());
  for (const auto& [name, count] : operators.items()) {
    evidence.reference_operators[name] = count.get<int64_t>();
    if (operator_kind(name) == OperatorKind::kRandom) evidence.reference_is_random = true;
  }
  evidence.reference_mutates_inputs = get(facts.value("gate", io::Json::object()), "mutates_inputs", false);
  evidence.reference_returns_input =
      std::all_of(evidence.reference_operators.begin(), evidence.reference_operators.end(),
                  [](const auto& entry) { return operator_kind(entry.first) == OperatorKind::kLayout; });
}

std::optional<Unjudgeable> find_unjudgeable(const io::Json& facts) {
  const io::Json gate = facts.value("gate", io::Json::object());
  if (get(gate, "stochastic", false))
    return Unjudgeable{"not_verified", "the reference gives another answer each time it is asked"};
  const auto degenerate = gate.find("degenerate");
  if (degenerate != gate.end() && degenerate->is_string())
    return Unjudgeable{"problem_degenerate",
                       degenerate->get<std::string>() + " passes on every distribution"};
  return std::nullopt;
}

}  // namespace nemoforge::verify
