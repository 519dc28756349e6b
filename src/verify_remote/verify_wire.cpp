#include "verify_remote/verify_wire.h"

#include <utility>

#include <nlohmann/json.hpp>

namespace nemoforge::verify_remote {
namespace {

using io::Json;

Result<std::string> text_field(const Json& object, const char* name, ErrorCode code) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) {
    return error(code, std::string(name) + " has to be a string, and is " +
                           (found == object.end() ? "missing" : found->type_name()));
  }
  return found->get<std::string>();
}

Result<int64_t> integer_field(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_integer()) {
    return error(ErrorCode::kInvalidData, std::string(name) + " is no integer");
  }
  return found->get<int64_t>();
}

}  // namespace

Result<VerifyJob> parse_verify_job(const std::string& body) {
  const auto parsed = io::parse_json(body, {.max_depth = 8});
  if (!parsed) return error(ErrorCode::kInvalidArgument, "the body is not JSON: " + parsed.error().message);
  if (!parsed->is_object()) return error(ErrorCode::kInvalidArgument, "the body is not a JSON object");
  for (const auto& [name, value] : parsed->items()) {
    if (name != "problem" && name != "candidate" && name != "overrides") {
      return error(ErrorCode::kInvalidArgument, "there is no field " + name.substr(0, 100));
    }
  }
  VerifyJob job;
  NF_TRY(job.problem, text_field(*parsed, "problem", ErrorCode::kInvalidArgument));
  NF_TRY(job.candidate, text_field(*parsed, "candidate", ErrorCode::kInvalidArgument));
  job.overrides = parsed->value("overrides", Json::object());
  if (!job.overrides.is_object()) {
    return error(ErrorCode::kInvalidArgument, "overrides has to be an object of module constants");
  }
  return job;
}

std::string verify_job_body(const VerifyJob& job) {
  return io::dump_json(
      {{"problem", job.problem}, {"candidate", job.candidate}, {"overrides", job.overrides}});
}

Result<verify::Verification> parse_verify_answer(const std::string& body, const std::string& device) {
  NF_TRY(const Json answer, io::parse_json(body, {.max_depth = 8}));
  if (!answer.is_object()) return error(ErrorCode::kInvalidData, "the answer is not a JSON object");
  verify::Verification verification;
  NF_TRY(verification.record_json, text_field(answer, "record", ErrorCode::kInvalidData));
  NF_TRY(verification.started_ms, integer_field(answer, "started_ms"));
  NF_TRY(verification.finished_ms, integer_field(answer, "finished_ms"));
  NF_TRY(const Json record, io::parse_json(verification.record_json, {.max_depth = 32}));
  if (!record.is_object()) return error(ErrorCode::kInvalidData, "the record is not a JSON object");
  verify::Judgement& judgement = verification.judgement;
  NF_TRY(judgement.name, text_field(record, "verdict", ErrorCode::kInvalidData));
  NF_TRY(judgement.stage, text_field(record, "stage", ErrorCode::kInvalidData));
  NF_TRY(judgement.detail, text_field(record, "detail", ErrorCode::kInvalidData));
  NF_TRY(const std::string judged_on, text_field(record, "device", ErrorCode::kInvalidData));
  if (judged_on != device) {
    return error(ErrorCode::kInvalidData, "the record is of device " + judged_on + ", not " + device);
  }
  const auto sandboxed = record.find("sandboxed");
  const auto correct = record.find("correct");
  if (judgement.name.empty() || sandboxed == record.end() || !sandboxed->is_boolean() ||
      correct == record.end() || *correct != Json(judgement.correct())) {
    return error(ErrorCode::kInvalidData, "the record does not agree with itself");
  }
  verification.sandboxed = sandboxed->get<bool>();
  const auto speedup = record.find("speedup");
  if (judgement.correct() && speedup != record.end() && speedup->is_number()) {
    verification.speedup = speedup->get<double>();
  }
  if (const auto tags = record.find("tags"); tags != record.end() && tags->is_array()) {
    for (const Json& tag : *tags) {
      if (tag.is_string()) judgement.tags.push_back(tag.get<std::string>());
    }
  }
  return verification;
}

std::string verify_answer_body(const verify::Verification& verification) {
  return io::dump_json({{"record", verification.record_json},
                        {"started_ms", verification.started_ms},
                        {"finished_ms", verification.finished_ms}});
}

}  // namespace nemoforge::verify_remote
