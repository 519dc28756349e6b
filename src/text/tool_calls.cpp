#include "text/tool_calls.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "text/utf8.h"

namespace nemoforge::text {
namespace {

constexpr std::string_view kOpenCall = "<tool_call>";
constexpr std::string_view kCloseCall = "</tool_call>";
constexpr std::string_view kOpenFunction = "<function=";
constexpr std::string_view kCloseFunction = "</function>";
constexpr std::string_view kOpenParameter = "<parameter=";
constexpr std::string_view kCloseParameter = "</parameter>";
constexpr std::string_view kSpace = " \t\r\n";

constexpr size_t kMaxName = 256;          // bytes of a function's or parameter's name
constexpr size_t kMaxTagSpace = 64;       // bytes of white space between two tags of a call's head or end
constexpr size_t kMaxContentSpace = 256;  // bytes of white space before a call that are layout
constexpr size_t kMaxHeldValue = 1 << 20;

bool is_space(char c) {
  return kSpace.find(c) != std::string_view::npos;
}

// Whether text is there: not, possibly (the text ends before that is certain), or yes.
enum class Match { kNo, kMore, kYes };

// Reads tags at the front of a text.
class TagReader {
 public:
  explicit TagReader(std::string_view text) : text_(text) {}

  [[nodiscard]] size_t pos() const { return pos_; }

  Match take(std::string_view tag) {
    const std::string_view rest = text_.substr(pos_);
    if (rest.starts_with(tag)) {
      pos_ += tag.size();
      return Match::kYes;
    }
    return tag.starts_with(rest) ? Match::kMore : Match::kNo;
  }

  // One of `tags`, without reading it.
  Match look(std::span<const std::string_view> tags) const {
    Match best = Match::kNo;
    for (const std::string_view tag : tags) {
      const Match match = TagReader(text_.substr(pos_)).take(tag);
      if (match == Match::kYes) return match;
      if (match == Match::kMore) best = match;
    }
    return best;
  }

  Match skip_space() {
    const size_t begin = pos_;
    while (pos_ < text_.size() && is_space(text_[pos_])) ++pos_;
    return pos_ - begin > kMaxTagSpace ? Match::kNo : Match::kYes;
  }

  // A name and the > after it.
  Match take_name(std::string_view& name) {
    const std::string_view rest = text_.substr(pos_);
    const size_t end = rest.find_first_of("<>\r\n");
    if (std::min(end, rest.size()) > kMaxName) return Match::kNo;
    if (end == std::string_view::npos) return Match::kMore;
    if (rest[end] != '>' || end == 0) return Match::kNo;
    name = rest.substr(0, end);
    pos_ += end + 1;
    return Match::kYes;
  }

 private:
  std::string_view text_;
  size_t pos_ = 0;
};

// `<function=name>` and, behind it, the beginning of a parameter or the end of the function.
Match read_function_head(TagReader& reader, std::string_view& name) {
  constexpr std::array kNext = {kOpenParameter, kCloseFunction, kCloseCall};
  if (const Match match = reader.take(kOpenFunction); match != Match::kYes) return match;
  if (const Match match = reader.take_name(name); match != Match::kYes) return match;
  if (reader.skip_space() == Match::kNo) return Match::kNo;
  return reader.look(kNext);
}

// What ends a value at the front of `text`, which begins with '<': its closing tag, or, where that is
// missing, the end of the function and the call together, the next parameter or the end of the call at the
// start of a line. `size` is what of it belongs to the value's end.
Match read_value_end(std::string_view text, bool at_line_start, size_t& size) {
  size = 0;
  TagReader reader(text);
  Match best = reader.take(kCloseParameter);
  if (best == Match::kYes) {
    size = kCloseParameter.size();
    return best;
  }
  TagReader ends(text);
  Match match = ends.take(kCloseFunction);
  if (match == Match::kYes) match = ends.skip_space();
  if (match == Match::kYes) match = ends.take(kCloseCall);
  if (match == Match::kYes) return match;
  if (match == Match::kMore) best = match;
  if (at_line_start) {
    constexpr std::array kNext = {kOpenParameter, kCloseCall};
    match = TagReader(text).look(kNext);
    if (match == Match::kYes) return match;
    if (match == Match::kMore) best = match;
  }
  return best;
}

// Where the white space at the end of `text` begins; at most kMaxContentSpace of it counts.
size_t trailing_space_begin(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0 && text.size() - begin < kMaxContentSpace && is_space(text[begin - 1])) --begin;
  return begin;
}

}  // namespace

ToolCallParser::ToolCallParser(std::shared_ptr<const ToolSchemas> schemas) : schemas_(std::move(schemas)) {}

std::vector<ToolCallEvent> ToolCallParser::push(std::string_view text) {
  pending_ += text;
  // Code points stay whole, so that each piece given out is UTF-8 where the text is.
  end_ = pending_.size() - incomplete_utf8_suffix(pending_);
  return run(false);
}

std::vector<ToolCallEvent> ToolCallParser::finish() {
  end_ = pending_.size();
  return run(true);
}

std::vector<ToolCallEvent> ToolCallParser::run(bool at_end) {
  while (step(at_end)) {
  }
  if (at_end && state_ != State::kContent && state_ != State::kAfterFunction) end_call(false);
  pending_.erase(0, pos_);
  pos_ = 0;
  return std::exchange(events_, {});
}

std::string_view ToolCallParser::rest() const {
  return std::string_view(pending_).substr(pos_, end_ - pos_);
}

bool ToolCallParser::step(bool at_end) {
  if (pos_ == end_) return false;
  switch (state_) {
    case State::kContent:
      return read_content(at_end);
    case State::kBody:
      return read_body(at_end);
    case State::kStray:
      return read_stray();
    case State::kValueStart:
      return read_value_start(at_end);
    case State::kValue:
      return read_value(at_end);
    case State::kAfterFunction:
      return read_after_function(at_end);
  }
  return false;
}

bool ToolCallParser::read_content(bool at_end) {
  const std::string_view text = rest();
  const size_t open = text.find(kOpenCall);
  if (open != std::string_view::npos) {
    TagReader reader(text.substr(open + kOpenCall.size()));
    std::string_view name;
    Match match = reader.skip_space();
    if (match == Match::kYes) match = read_function_head(reader, name);
    if (match == Match::kNo || (match == Match::kMore && at_end)) {
      emit_content(text.substr(0, open + kOpenCall.size()));
      pos_ += open + kOpenCall.size();
      return true;
    }
    const size_t content_end = trailing_space_begin(text.substr(0, open));
    emit_content(text.substr(0, content_end));
    if (match == Match::kMore) {
      pos_ += content_end;
      return false;
    }
    pos_ += open + kOpenCall.size() + reader.pos();
    begin_call(name);
    return true;
  }
  size_t end = text.size();
  if (!at_end) {
    size_t held = std::min(text.size(), kOpenCall.size() - 1);
    while (!text.ends_with(kOpenCall.substr(0, held))) --held;
    end -= held;
  }
  const size_t space = trailing_space_begin(text.substr(0, end));
  if (!at_end || (only_space_since_call_ && space == 0)) end = space;
  emit_content(text.substr(0, end));
  pos_ += at_end ? text.size() : end;
  return false;
}

bool ToolCallParser::read_body(bool at_end) {
  while (pos_ < end_ && is_space(pending_[pos_])) ++pos_;
  if (pos_ == end_) return false;
  constexpr std::array kTags = {kOpenParameter, kCloseFunction, kCloseCall};
  TagReader reader(rest());
  Match match = reader.look(kTags);
  std::string_view key;
  if (match == Match::kYes && reader.take(kOpenParameter) == Match::kYes) {
    match = reader.take_name(key);
    if (match == Match::kYes) {
      begin_parameter(key);
      pos_ += reader.pos();
      state_ = State::kValueStart;
      return true;
    }
  } else if (match == Match::kYes) {
    end_call(true);
    const bool function_ends = reader.take(kCloseFunction) == Match::kYes;
    if (!function_ends) (void)reader.take(kCloseCall);
    pos_ += reader.pos();
    state_ = function_ends ? State::kAfterFunction : State::kContent;
    return true;
  }
  if (match == Match::kMore && !at_end) return false;
  emit_content(rest().substr(0, 1));
  ++pos_;
  state_ = State::kStray;
  return true;
}

// Up to the next '<', which may begin a tag.
bool ToolCallParser::read_stray() {
  const std::string_view text = rest();
  const size_t size = std::min(text.find('<'), text.size());
  emit_content(text.substr(0, size));
  pos_ += size;
  if (size < text.size()) state_ = State::kBody;
  return true;
}

// One newline on either side of a value belongs to the tags.
bool ToolCallParser::read_value_start(bool at_end) {
  // The newline stays until the value's end is looked for: it is the start of a line too.
  if (pending_[pos_] == '\n') {
    size_t size = 0;
    if (end_ - pos_ == 1 && !at_end) return false;
    const std::string_view text = rest().substr(1);
    if (!text.empty() && text[0] == '<') {
      const Match match = read_value_end(text, true, size);
      if (match == Match::kMore && !at_end) return false;
      if (match == Match::kYes) {
        pos_ += 1 + size;
        end_value();
        return true;
      }
    }
    ++pos_;
  }
  state_ = State::kValue;
  return true;
}

bool ToolCallParser::read_value(bool at_end) {
  const std::string_view text = rest();
  for (size_t tag = text.find('<'); tag != std::string_view::npos; tag = text.find('<', tag + 1)) {
    const bool after_newline = tag > 0 && text[tag - 1] == '\n';
    size_t size = 0;
    const Match match = read_value_end(text.substr(tag), after_newline, size);
    if (match == Match::kNo || (match == Match::kMore && at_end)) continue;
    const size_t end = after_newline ? tag - 1 : tag;
    add_value_text(text.substr(0, end));
    if (match == Match::kMore) {
      pos_ += end;
      return false;
    }
    pos_ += tag + size;
    end_value();
    return true;
  }
  const size_t held = !at_end && text.ends_with('\n') ? 1 : 0;
  add_value_text(text.substr(0, text.size() - held));
  pos_ += text.size() - held;
  return false;
}

bool ToolCallParser::read_after_function(bool at_end) {
  TagReader reader(rest());
  Match match = reader.skip_space();
  if (match == Match::kYes) match = reader.take(kCloseCall);
  if (match == Match::kYes) {
    pos_ += reader.pos();
    state_ = State::kContent;
    return true;
  }
  bool more = match == Match::kMore;
  if (reader.pos() <= kMaxTagSpace) {
    std::string_view name;
    match = read_function_head(reader, name);
    if (match == Match::kYes) {
      pos_ += reader.pos();
      begin_call(name);
      return true;
    }
    more = more || match == Match::kMore;
  }
  if (more && !at_end) return false;
  state_ = State::kContent;
  return true;
}

void ToolCallParser::begin_call(std::string_view name) {
  function_ = name;
  ++num_calls_;
  has_parameters_ = false;
  emit(ToolCallEvent::Kind::kBegin, name);
  emit(ToolCallEvent::Kind::kArguments, "{");
  state_ = State::kBody;
}

void ToolCallParser::begin_parameter(std::string_view key) {
  parameter_ = schemas_ ? schemas_->parameter(function_, key) : ToolParameter();
  value_is_streamed_ = parameter_.is_free_string();
  value_.clear();
  std::string piece = has_parameters_ ? ", \"" : "\"";
  piece += escape_json_string(key);
  piece += value_is_streamed_ ? "\": \"" : "\": ";
  emit(ToolCallEvent::Kind::kArguments, piece);
  has_parameters_ = true;
}

void ToolCallParser::add_value_text(std::string_view piece) {
  if (value_is_streamed_) {
    emit(ToolCallEvent::Kind::kArguments, escape_json_string(piece));
    return;
  }
  value_ += piece;
  if (value_.size() <= kMaxHeldValue) return;
  value_is_streamed_ = true;
  emit(ToolCallEvent::Kind::kArguments, '"' + escape_json_string(std::exchange(value_, {})));
}

void ToolCallParser::end_value() {
  emit(ToolCallEvent::Kind::kArguments, value_is_streamed_ ? "\"" : argument_to_json(value_, parameter_));
  value_is_streamed_ = false;
  value_.clear();
  state_ = State::kBody;
}

void ToolCallParser::end_call(bool complete) {
  if (complete) {
    emit(ToolCallEvent::Kind::kArguments, "}");
  } else if (!value_.empty()) {
    emit(ToolCallEvent::Kind::kArguments, argument_to_json(value_, parameter_));
  }
  emit(ToolCallEvent::Kind::kEnd, {}, complete);
  only_space_since_call_ = true;
  state_ = State::kContent;
}

// Pieces of one text join the event before them.
void ToolCallParser::emit(ToolCallEvent::Kind kind, std::string_view text, bool complete) {
  if (kind == ToolCallEvent::Kind::kArguments && !events_.empty() && events_.back().kind == kind) {
    events_.back().text += text;
  } else if (kind != ToolCallEvent::Kind::kArguments || !text.empty()) {
    events_.push_back({kind, num_calls_ - 1, std::string(text), complete});
  }
}

void ToolCallParser::emit_content(std::string_view text) {
  if (text.empty()) return;
  only_space_since_call_ = false;
  if (!events_.empty() && events_.back().kind == ToolCallEvent::Kind::kContent) {
    events_.back().text += text;
  } else {
    events_.push_back({ToolCallEvent::Kind::kContent, -1, std::string(text), false});
  }
}

void append_events(ParsedAnswer& answer, const std::vector<ToolCallEvent>& events) {
  for (const ToolCallEvent& event : events) {
    switch (event.kind) {
      case ToolCallEvent::Kind::kContent:
        answer.content += event.text;
        break;
      case ToolCallEvent::Kind::kBegin:
        answer.calls.push_back({event.text, {}, false});
        break;
      case ToolCallEvent::Kind::kArguments:
        answer.calls.back().arguments += event.text;
        break;
      case ToolCallEvent::Kind::kEnd:
        answer.calls.back().complete = event.complete;
        break;
    }
  }
}

ParsedAnswer parse_tool_calls(std::string_view text, std::shared_ptr<const ToolSchemas> schemas) {
  ToolCallParser parser(std::move(schemas));
  ParsedAnswer answer;
  append_events(answer, parser.push(text));
  append_events(answer, parser.finish());
  return answer;
}

}  // namespace nemoforge::text
