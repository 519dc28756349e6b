#include "trace/refine.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "io/json.h"
#include "text/utf8.h"

namespace nemoforge::trace {
namespace {

constexpr size_t kMaxDetailCodePoints = 2000;

// What the verdicts of a candidate mean for its author. A verdict that is not here is named as it is.
constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kMeanings = {{
    {"no_code", "the answer holds no Python code block with a class ModelNew"},
    {"import_blocked", "it imports a module that is not allowed"},
    {"compile_error", "it does not compile"},
    {"runtime_error", "it fails when it runs"},
    {"timeout", "it does not finish in time"},
    {"oom", "it runs out of memory"},
    {"wrong_count", "it returns another number of outputs than Model"},
    {"wrong_shape", "an output has another shape than Model's"},
    {"wrong_dtype", "an output has another dtype than Model's"},
    {"wrong_device", "an output is on another device than Model's"},
    {"mismatch", "its outputs differ from Model's"},
    {"input_mutated", "it changes its inputs"},
    {"nondeterministic", "it gives different outputs for the same inputs"},
    {"no_triton_launch", "no Triton kernel of yours was launched: the work must be done in Triton kernels"},
}};

std::string meaning_of(const store::Verdict& verdict) {
  if (!verdict.family.empty()) {
    return "it does not do the work honestly in Triton kernels (" + verdict.family + ")";
  }
  const auto* const entry = std::find_if(kMeanings.begin(), kMeanings.end(), [&](const auto& meaning) {
    return meaning.first == verdict.verdict;
  });
  return entry != kMeanings.end() ? std::string(entry->second) : verdict.verdict;
}

std::string detail_of(const store::Verdict& verdict) {
  const auto record = io::parse_json(verdict.record_json);
  if (!record || !record->is_object()) return {};
  const auto detail = record->find("detail");
  return detail != record->end() && detail->is_string() ? detail->get<std::string>() : std::string();
}

// Marks such as <|im_end|>, <think> and </think> get a space after the "<", backticks become quotes, so that
// the text neither ends its message nor its fence.
std::string harmless(std::string_view text) {
  std::string out;
  size_t num_code_points = 0;
  for (size_t pos = 0; pos < text.size() && num_code_points < kMaxDetailCodePoints; ++num_code_points) {
    const text::CodePoint point = text::decode_code_point(text, pos);
    pos += static_cast<size_t>(point.num_bytes);
    const bool is_control = point.value < 0x20 && point.value != '\n' && point.value != '\t';
    if (is_control || point.value == 0x7F) continue;
    text::append_utf8(out, point.value == '`' ? U'\'' : point.value);
    if (point.value == '<' && pos < text.size() && text[pos] != ' ' && text[pos] != '=') out += ' ';
  }
  while (!out.empty() && (out.back() == '\n' || out.back() == ' ')) out.pop_back();
  return out;
}

}  // namespace

bool needs_refinement(const store::Verdict& verdict, std::optional<double> target_speedup) {
  if (verdict.verdict == "not_verified" || verdict.verdict == "needs_gpu" ||
      verdict.verdict == "problem_degenerate") {
    return false;
  }
  if (!verdict.correct) return true;
  return target_speedup && verdict.speedup && *verdict.speedup < *target_speedup;
}

std::string feedback_message(const store::Verdict& verdict, std::optional<double> target_speedup) {
  if (verdict.correct) {
    return fmt::format(
        "ModelNew is correct, but it runs {:.2f} times as fast as Model and should reach {:.2f}. Find what "
        "costs the time, make it faster without changing its results, and output the whole new code in a "
        "code "
        "block.",
        verdict.speedup.value_or(0), target_speedup.value_or(0));
  }
  std::string message = "ModelNew was run and rejected: " + meaning_of(verdict) + ".\n";
  const std::string detail = harmless(detail_of(verdict));
  if (!detail.empty()) message += "```text\n" + detail + "\n```\n";
  return message + "Find the cause, correct it, and output the whole new code in a code block.";
}

Result<std::string> refinement_messages(const store::Trace& failed, const store::Verdict& verdict,
                                        std::optional<double> target_speedup) {
  NF_TRY(io::Json messages, io::parse_json(failed.messages_json));
  if (!messages.is_array()) {
    return error(ErrorCode::kInvalidData,
                 "the messages of trace " + std::to_string(failed.id) + " are no list");
  }
  messages.push_back(
      {{"role", "assistant"}, {"content", failed.answer}, {"reasoning_content", failed.reasoning}});
  messages.push_back({{"role", "user"}, {"content", feedback_message(verdict, target_speedup)}});
  return io::dump_json(messages);
}

}  // namespace nemoforge::trace
