#include "text/reasoning.h"

#include <algorithm>
#include <utility>

namespace nemoforge::text {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
constexpr std::string_view kNewlineAndClose = "\n</think>";
constexpr std::string_view kWhiteSpace = " \t\r\n";

// How many bytes at the end of `text` are a proper beginning of `tag`.
size_t partial_suffix(std::string_view text, std::string_view tag) {
  for (size_t size = std::min(text.size(), tag.size() - 1); size > 0; --size) {
    if (text.ends_with(tag.substr(0, size))) return size;
  }
  return 0;
}

std::string_view without_trailing_space(std::string_view text) {
  const size_t last = text.find_last_not_of(kWhiteSpace);
  return last == std::string_view::npos ? std::string_view() : text.substr(0, last + 1);
}

}  // namespace

ReasoningStart reasoning_start(std::string_view prompt) {
  const std::string_view end = without_trailing_space(prompt);
  if (end.ends_with(kOpen)) return ReasoningStart::kReasoning;
  if (end.ends_with(kClose)) return ReasoningStart::kContent;
  return ReasoningStart::kUndecided;
}

ReasoningParser::ReasoningParser(ReasoningStart start, bool newline_after_tag_seen)
    : state_(start == ReasoningStart::kReasoning   ? State::kReasoningStart
             : start == ReasoningStart::kUndecided ? State::kUndecided
                                                   : State::kContentStart),
      skip_newline_(start == ReasoningStart::kReasoning && !newline_after_tag_seen) {}

ReasoningParser ReasoningParser::for_prompt(std::string_view prompt) {
  return ReasoningParser(reasoning_start(prompt), !prompt.ends_with(kOpen));
}

ReasoningDelta ReasoningParser::push(std::string_view text) {
  pending_ += text;
  ReasoningDelta out;
  while (step(out, false)) {
  }
  return out;
}

ReasoningDelta ReasoningParser::finish() {
  ReasoningDelta out;
  while (step(out, true)) {
  }
  return out;
}

bool ReasoningParser::step(ReasoningDelta& out, bool at_end) {
  if (pending_.empty()) return false;
  switch (state_) {
    case State::kUndecided:
      return decide(at_end);
    case State::kContentStart:
      return skip_orphan(at_end);
    case State::kReasoningStart:
      if (skip_newline_ && pending_[0] == '\n') pending_.erase(0, 1);
      state_ = State::kReasoning;
      return true;
    case State::kReasoning:
      return read_reasoning(out, at_end);
    case State::kAfterClose:
      if (pending_[0] == '\n') pending_.erase(0, 1);
      state_ = State::kContent;
      return true;
    case State::kContent:
      out.content += std::exchange(pending_, {});
      return false;
  }
  return false;
}

// Whether the output begins with <think>.
bool ReasoningParser::decide(bool at_end) {
  const size_t begin = std::min(pending_.find_first_not_of(kWhiteSpace), pending_.size());
  const std::string_view rest = std::string_view(pending_).substr(begin);
  if (rest.starts_with(kOpen)) {
    pending_.erase(0, begin + kOpen.size());
    skip_newline_ = true;
    state_ = State::kReasoningStart;
    return true;
  }
  if (!at_end && kOpen.starts_with(rest)) return false;
  state_ = State::kContentStart;
  return true;
}

// Drops a </think> that closes nothing, where it is the first thing written.
bool ReasoningParser::skip_orphan(bool at_end) {
  const size_t begin = std::min(pending_.find_first_not_of(kWhiteSpace), pending_.size());
  const std::string_view rest = std::string_view(pending_).substr(begin);
  if (rest.starts_with(kClose)) {
    pending_.erase(0, begin + kClose.size());
    state_ = State::kAfterClose;
    return true;
  }
  if (!at_end && kClose.starts_with(rest)) return false;
  state_ = State::kContent;
  return true;
}

bool ReasoningParser::read_reasoning(ReasoningDelta& out, bool at_end) {
  const size_t close = pending_.find(kClose);
  if (close != std::string::npos) {
    const size_t end = close > 0 && pending_[close - 1] == '\n' ? close - 1 : close;
    out.reasoning += pending_.substr(0, end);
    pending_.erase(0, close + kClose.size());
    state_ = State::kAfterClose;
    return true;
  }
  size_t held = 0;
  if (!at_end) held = std::max(partial_suffix(pending_, kClose), partial_suffix(pending_, kNewlineAndClose));
  out.reasoning += pending_.substr(0, pending_.size() - held);
  pending_.erase(0, pending_.size() - held);
  return false;
}

ReasoningDelta split_reasoning(std::string_view text, ReasoningStart start, bool newline_after_tag_seen) {
  ReasoningParser parser(start, newline_after_tag_seen);
  ReasoningDelta out = parser.push(text);
  const ReasoningDelta rest = parser.finish();
  out.reasoning += rest.reasoning;
  out.content += rest.content;
  return out;
}

ReasoningDelta split_reasoning(std::string_view text, bool prompt_ended_in_think) {
  return split_reasoning(text,
                         prompt_ended_in_think ? ReasoningStart::kReasoning : ReasoningStart::kUndecided);
}

}  // namespace nemoforge::text
