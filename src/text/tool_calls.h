// Splits what the model writes as its answer into content and tool calls, at once or as it streams in; both
// ways give the same for any chunking. The calls' form is the model's own:
//
//   <tool_call>
//   <function=name>
//   <parameter=key>
//   value
//   </parameter>
//   </function>
//   </tool_call>
//
// A call has begun once its head is there up to the first <parameter= (or the end of a function without any);
// until then what looks like a call but is none is content, byte for byte. From there on the call is given
// out as it is written, and cannot be taken back: text that stands between parameters is content, and a call
// whose end never comes is reported as incomplete, its arguments ending where the text does.
//
// White space before a call and after the last one is layout, not content.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tool_argument.h"

namespace nemoforge::text {

struct ToolCallEvent {
  enum class Kind {
    kContent,    // text: content
    kBegin,      // text: the function's name
    kArguments,  // text: the next piece of the arguments' JSON
    kEnd,        // complete says whether the arguments are
  };
  Kind kind = Kind::kContent;
  int32_t call_idx = -1;  // of the call, from 0; -1 for content
  std::string text;
  bool complete = false;

  friend bool operator==(const ToolCallEvent&, const ToolCallEvent&) = default;
};

class ToolCallParser {
 public:
  // Without `schemas` the values' types are taken from their text.
  explicit ToolCallParser(std::shared_ptr<const ToolSchemas> schemas = nullptr);

  // What has become certain with these bytes. Holds back what may be part of a tag (some hundred bytes), and
  // values that are not free strings (1 MiB; longer ones are given out as strings).
  [[nodiscard]] std::vector<ToolCallEvent> push(std::string_view text);
  // What was held back.
  [[nodiscard]] std::vector<ToolCallEvent> finish();

  // Calls begun so far.
  [[nodiscard]] int32_t num_calls() const { return num_calls_; }

 private:
  enum class State { kContent, kBody, kStray, kValueStart, kValue, kAfterFunction };

  // One step; false where more text is needed (or, at the end, nothing is left).
  bool step(bool at_end);
  bool read_content(bool at_end);
  bool read_body(bool at_end);
  bool read_stray();
  bool read_value_start(bool at_end);
  bool read_value(bool at_end);
  bool read_after_function(bool at_end);

  void begin_call(std::string_view name);
  void begin_parameter(std::string_view key);
  void add_value_text(std::string_view piece);
  void end_value();
  void end_call(bool complete);
  void emit(ToolCallEvent::Kind kind, std::string_view text, bool complete = false);
  void emit_content(std::string_view text);
  std::vector<ToolCallEvent> run(bool at_end);
  [[nodiscard]] std::string_view rest() const;

  std::shared_ptr<const ToolSchemas> schemas_;
  State state_ = State::kContent;
  std::string pending_;  // from pos_ on: not yet decided upon
  size_t pos_ = 0;
  size_t end_ = 0;  // of the whole code points in pending_
  std::vector<ToolCallEvent> events_;

  int32_t num_calls_ = 0;
  bool only_space_since_call_ = false;
  std::string function_;
  bool has_parameters_ = false;
  ToolParameter parameter_;
  bool value_is_streamed_ = false;
  std::string value_;  // so far, where it is not streamed
};

struct ToolCall {
  std::string name;
  std::string arguments;  // JSON, if complete
  bool complete = false;

  friend bool operator==(const ToolCall&, const ToolCall&) = default;
};

struct ParsedAnswer {
  std::string content;
  std::vector<ToolCall> calls;

  friend bool operator==(const ParsedAnswer&, const ParsedAnswer&) = default;
};

// Puts events together; any pieces of the same stream give the same answer.
void append_events(ParsedAnswer& answer, const std::vector<ToolCallEvent>& events);

// The whole answer at once.
[[nodiscard]] ParsedAnswer parse_tool_calls(std::string_view text,
                                            std::shared_ptr<const ToolSchemas> schemas = nullptr);

}  // namespace nemoforge::text
