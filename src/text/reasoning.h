// Splits what the model writes into reasoning (<think>...</think>) and content, at once or as it streams in;
// both ways give the same for any chunking.
//
// One newline on either side of the tags belongs to them: the prompt ends in "<think>\n", the model writes
// "reasoning\n</think>\ncontent", and the chat template writes the same around `reasoning_content`, so a
// conversation rendered again is the text that the model saw and wrote. Further newlines belong to the text.
//
// No text is lost: reasoning that is never closed is all reasoning, and the content is empty. A </think>
// after the first is content like any other text.
#pragma once

#include <string>
#include <string_view>

namespace nemoforge::text {

struct ReasoningDelta {
  std::string reasoning;
  std::string content;
};

// What the prompt leaves to the model.
enum class ReasoningStart {
  kReasoning,  // it ends in "<think>\n" (or "<think>", where a newline at the start belongs to the tag)
  kUndecided,  // reasoning if the output begins with <think>, after white space at most; else content
  kContent,    // thinking is off (the prompt ends in </think>): all is content, except an orphan </think> at
               // the very start, which is dropped
};

// Read off the end of a rendered prompt.
[[nodiscard]] ReasoningStart reasoning_start(std::string_view prompt);

class ReasoningParser {
 public:
  explicit ReasoningParser(ReasoningStart start, bool newline_after_tag_seen = true);
  // For the model's answer to this prompt.
  [[nodiscard]] static ReasoningParser for_prompt(std::string_view prompt);

  // What has become certain with these bytes. Holds back what may be part of a tag.
  [[nodiscard]] ReasoningDelta push(std::string_view text);
  // What was held back.
  [[nodiscard]] ReasoningDelta finish();
  // Whether the model is still reasoning.
  [[nodiscard]] bool in_reasoning() const {
    return state_ == State::kReasoning || state_ == State::kReasoningStart;
  }

 private:
  enum class State { kUndecided, kContentStart, kReasoningStart, kReasoning, kAfterClose, kContent };

  // One step; false where more text is needed (or, at the end, nothing is left).
  bool step(ReasoningDelta& out, bool at_end);
  bool decide(bool at_end);
  bool skip_orphan(bool at_end);
  bool read_reasoning(ReasoningDelta& out, bool at_end);

  State state_;
  bool skip_newline_ = false;  // one at the start of what follows belongs to the tag
  std::string pending_;
};

// The whole output at once.
[[nodiscard]] ReasoningDelta split_reasoning(std::string_view text, ReasoningStart start,
                                             bool newline_after_tag_seen = true);
[[nodiscard]] ReasoningDelta split_reasoning(std::string_view text, bool prompt_ended_in_think);

}  // namespace nemoforge::text
