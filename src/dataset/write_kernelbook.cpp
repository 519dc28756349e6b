#include <ctime>

#include <nlohmann/json.hpp>

#include "dataset/write.h"
#include "io/json.h"

namespace nemoforge::dataset {
namespace {

using io::Json;

// "2026-03-06T02:23:00" in UTC.
std::string iso_time(int64_t ms) {
  const std::time_t seconds = ms / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts)};
}

Json result_json(const store::Verdict& verdict) {
  const auto record = io::parse_json(verdict.record_json);
  const auto number = [&record](const char* name) {
    const Json value = record && record->is_object() ? record->value(name, Json(nullptr)) : Json(nullptr);
    return value.is_number() ? value.get<double>() : kNotMeasured;
  };
  const double speedup = verdict.speedup.value_or(kNotMeasured);
  return {{"correctness", verdict.correct},
          {"error", verdict.correct ? Json(nullptr) : Json(verdict.verdict)},
          {"fast_0", verdict.correct},
          {"fast_1", verdict.correct && speedup > 1},
          {"fast_2", verdict.correct && speedup > 2},
          {"kernel_name", "ModelNew"},
          {"kernel_time_ms", number("kernel_ms")},
          {"reference_time_ms", number("reference_ms")},
          {"speedup", verdict.speedup.value_or(kNotMeasured)},
          {"timestamp", iso_time(verdict.finished_ms)}};
}

// One turn: an attempt and what its verification said.
Result<Json> turn_json(const store::RunStore& run, int64_t trace_id, int64_t turn) {
  NF_TRY(const std::optional<store::Trace> trace, run.trace(trace_id));
  NF_TRY(const std::optional<store::Verdict> verdict, run.newest_verdict(trace_id));
  if (!trace)
    return error(ErrorCode::kInvalidData, "trace " + std::to_string(trace_id) + " is not in its run");
  return Json{{"turn", turn},
              {"reasoning", trace->reasoning},
              {"response", trace->answer},
              {"triton_code", trace->code},
              {"result", verdict ? result_json(*verdict) : Json(nullptr)}};
}

}  // namespace

Result<std::string> kernelbook_row(const Candidate& candidate, const store::RunStore& run) {
  NF_TRY(const std::optional<store::Trace> trace, run.trace(candidate.trace_id));
  NF_TRY(const std::optional<store::Verdict> verdict, run.newest_verdict(candidate.trace_id));
  NF_TRY(const std::optional<store::Problem> problem, run.problem(candidate.problem_id));
  if (!trace || !verdict || !problem) {
    return error(ErrorCode::kInvalidData,
                 "a trace of " + candidate.problem_id + " has no text, verdict or problem in its run");
  }
  Json turns = Json::array();
  for (const int64_t id : candidate.earlier_trace_ids) {
    NF_TRY(Json turn, turn_json(run, id, static_cast<int64_t>(turns.size()) + 1));
    turns.push_back(std::move(turn));
  }
  NF_TRY(Json last_turn, turn_json(run, candidate.trace_id, static_cast<int64_t>(turns.size()) + 1));
  turns.push_back(std::move(last_turn));
  NF_TRY(const std::string conversation, conversation_json(*trace));
  NF_TRY(Json messages, io::parse_json(conversation));
  for (Json& message : messages) message.erase("reasoning_content");
  const bool is_of_kernelbench = candidate.problem_id.starts_with("level");
  return io::dump_json({{"sample_key", candidate.problem_id + "/" + std::to_string(candidate.sample_idx)},
                        {"source", is_of_kernelbench ? "kernelbench" : "nemoforge"},
                        {"pytorch_code", problem->source},
                        {"num_turns", turns.size()},
                        {"stop_reason", "success"},
                        {"final_triton_code", trace->code},
                        {"final_result", result_json(*verdict)},
                        {"turns", io::dump_json(turns)},
                        {"full_messages", io::dump_json(messages)}});
}

}  // namespace nemoforge::dataset
