#include "text/jinja/parser.h"

#include "text/jinja/parser_state.h"

namespace nemoforge::text::jinja {

const Token& Parser::next() {
  const Token& token = tokens_[pos_];
  if (pos_ + 1 < tokens_.size()) ++pos_;
  return token;
}

bool Parser::skip_operator(std::string_view op) {
  if (!current().is_operator(op)) return false;
  next();
  return true;
}

bool Parser::skip_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  next();
  return true;
}

tl::unexpected<Error> Parser::unexpected_token(std::string_view expected) const {
  if (current().type == TokenType::kEnd) {
    return syntax_error(current().line,
                        "unexpected end of template, expected '" + std::string(expected) + "'.");
  }
  return syntax_error(current().line,
                      "expected token '" + std::string(expected) + "', got '" + describe(current()) + "'");
}

Status Parser::expect_operator(std::string_view op) {
  if (!skip_operator(op)) return unexpected_token(op);
  return {};
}

Status Parser::expect_type(TokenType type, std::string_view description) {
  if (current().type != type) return unexpected_token(description);
  next();
  return {};
}

Result<std::string> Parser::expect_name() {
  if (current().type != TokenType::kName) return unexpected_token("name");
  return next().text;
}

Status Parser::check_nesting() const {
  if (nesting_ > kMaxNesting) return syntax_error(current().line, "the template is nested too deeply");
  return {};
}

int Parser::id_of(const std::string& name) {
  const auto [it, added] = ids_.try_emplace(name, static_cast<int>(tree_.names.size()));
  if (added) tree_.names.push_back(name);
  return it->second;
}

void Parser::note_use(const std::string& name) {
  for (MacroNode* macro : open_macros_) {
    if (name == "caller") macro->uses_caller = true;
    if (name == "kwargs") macro->uses_kwargs = true;
    if (name == "varargs") macro->uses_varargs = true;
  }
}

void Parser::settle_unknown(size_t first, UnknownName::Place place) {
  for (size_t i = first; i < unknown_names_.size(); ++i) {
    if (unknown_names_[i].place == UnknownName::Place::kUndecided) unknown_names_[i].place = place;
  }
}

Result<Tree> Parser::run() {
  tree_.loop_id = id_of("loop");
  tree_.caller_id = id_of("caller");
  tree_.kwargs_id = id_of("kwargs");
  tree_.varargs_id = id_of("varargs");
  NF_TRY(tree_.body, parse_body({}));
  for (const UnknownName& unknown : unknown_names_) {
    if (unknown.place == UnknownName::Place::kConditional) continue;
    return error(ErrorCode::kUnsupported,
                 "line " + std::to_string(unknown.line) + ": unknown " + unknown.what);
  }
  return std::move(tree_);
}

// Statements up to one of the end tags, whose name is then the current token; without end tags, all of them.
Result<Body> Parser::parse_body(std::initializer_list<std::string_view> end_tags) {
  const Nesting nesting(nesting_);
  NF_RETURN_IF_ERROR(check_nesting());
  Body body;
  while (current().type != TokenType::kEnd) {
    const int line = current().line;
    if (current().type == TokenType::kData) {
      body.push_back(std::make_unique<TextNode>(line, next().text));
    } else if (current().type == TokenType::kVariableBegin) {
      next();
      NF_TRY(auto expression, parse_tuple(true));
      NF_RETURN_IF_ERROR(expect_type(TokenType::kVariableEnd, "end of print statement"));
      body.push_back(std::make_unique<OutputNode>(line, std::move(expression)));
    } else {
      NF_RETURN_IF_ERROR(expect_type(TokenType::kBlockBegin, "begin of statement block"));
      for (const std::string_view tag : end_tags) {
        if (current().is_name(tag)) return body;
      }
      if (current().is_name("print")) {
        NF_RETURN_IF_ERROR(parse_print(body));
      } else {
        NF_TRY(auto statement, parse_statement());
        body.push_back(std::move(statement));
      }
      NF_RETURN_IF_ERROR(expect_type(TokenType::kBlockEnd, "end of statement block"));
    }
  }
  if (end_tags.size() == 0) return body;
  std::string expected;
  for (const std::string_view tag : end_tags) {
    if (!expected.empty()) expected += " or ";
    expected += "'" + std::string(tag) + "'";
  }
  return syntax_error(current().line,
                      "unexpected end of template; looking for " + expected +
                          (open_tags_.empty() ? "" : " to close '" + open_tags_.back() + "'"));
}

// The body of a statement whose opening tag ends here.
Result<Body> Parser::parse_block_body(std::initializer_list<std::string_view> end_tags) {
  skip_operator(":");
  NF_RETURN_IF_ERROR(expect_type(TokenType::kBlockEnd, "end of statement block"));
  return parse_body(end_tags);
}

tl::unexpected<Error> Parser::unknown_tag(const std::string& name, int line) const {
  for (const std::string_view tag : {"include", "import", "from", "extends", "autoescape"}) {
    if (name == tag) return unsupported(line, "the tag '" + name + "'");
  }
  std::string message = "unknown tag '" + name + "'";
  if (!open_tags_.empty()) message += "; the innermost open block is '" + open_tags_.back() + "'";
  return error(ErrorCode::kUnsupported, "line " + std::to_string(line) + ": " + message);
}

Result<StatementPtr> Parser::parse_statement() {
  if (current().type != TokenType::kName) return syntax_error(current().line, "tag name expected");
  const std::string name = current().text;
  const int line = current().line;
  using Parse = Result<StatementPtr> (Parser::*)();
  constexpr std::pair<std::string_view, Parse> kTags[] = {
      {"if", &Parser::parse_if},
      {"for", &Parser::parse_for},
      {"set", &Parser::parse_set},
      {"macro", &Parser::parse_macro},
      {"call", &Parser::parse_call_block},
      {"filter", &Parser::parse_filter_block},
      {"with", &Parser::parse_with},
      {"block", &Parser::parse_block},
      {"generation", &Parser::parse_generation},
      {"break", &Parser::parse_loop_control},
      {"continue", &Parser::parse_loop_control},
  };
  for (const auto& [tag, parse] : kTags) {
    if (name != tag) continue;
    open_tags_.push_back(name);
    auto statement = (this->*parse)();
    open_tags_.pop_back();
    return statement;
  }
  return unknown_tag(name, line);
}

Result<StatementPtr> Parser::parse_if() {
  auto node = std::make_unique<IfNode>(current().line);
  const size_t first_unknown = unknown_names_.size();
  next();
  while (true) {
    NF_TRY(auto condition, parse_tuple(false));
    NF_TRY(auto body, parse_block_body({"elif", "else", "endif"}));
    node->branches.emplace_back(std::move(condition), std::move(body));
    const Token& tag = next();
    if (tag.is_name("elif")) continue;
    if (tag.is_name("else")) {
      NF_TRY(node->otherwise, parse_block_body({"endif"}));
      next();
    }
    break;
  }
  settle_unknown(first_unknown, UnknownName::Place::kConditional);
  return StatementPtr(std::move(node));
}

Result<StatementPtr> Parser::parse_for() {
  auto node = std::make_unique<ForNode>(current().line);
  next();
  ++loop_depth_;
  NF_TRY(node->target, parse_target(false));
  --loop_depth_;
  if (!current().is_name("in")) return unexpected_token("in");
  next();
  NF_TRY(node->iterable, parse_tuple(false));
  const size_t first_unknown = unknown_names_.size();
  if (skip_name("if")) {
    NF_TRY(node->condition, parse_expression());
  }
  node->recursive = skip_name("recursive");
  ++loop_depth_;
  NF_TRY(node->body, parse_block_body({"endfor", "else"}));
  --loop_depth_;
  if (next().is_name("else")) {
    NF_TRY(node->otherwise, parse_block_body({"endfor"}));
    next();
  }
  settle_unknown(first_unknown, UnknownName::Place::kAlways);
  return StatementPtr(std::move(node));
}

Result<StatementPtr> Parser::parse_loop_control() {
  const Token& tag = next();
  if (loop_depth_ == 0) return syntax_error(tag.line, "'" + tag.text + "' outside a loop");
  return StatementPtr(
      std::make_unique<LoopControlNode>(tag.line, tag.text == "break" ? Flow::kBreak : Flow::kContinue));
}

Result<StatementPtr> Parser::parse_set() {
  const int line = next().line;
  NF_TRY(Target target, parse_target(true));
  if (skip_operator("=")) {
    auto node = std::make_unique<SetNode>(line);
    node->target = std::move(target);
    NF_TRY(node->value, parse_tuple(true));
    return StatementPtr(std::move(node));
  }
  auto node = std::make_unique<SetBlockNode>(line);
  node->target = std::move(target);
  const size_t first_unknown = unknown_names_.size();
  if (current().is_operator("|")) {
    NF_TRY(node->filter, parse_filters(nullptr));
  }
  NF_TRY(node->body, parse_block_body({"endset"}));
  next();
  settle_unknown(first_unknown, UnknownName::Place::kAlways);
  return StatementPtr(std::move(node));
}

// name, or name.attribute where a namespace may be assigned to, or (a, b)
Result<Target> Parser::parse_single_target(bool allow_attributes) {
  const Nesting nesting(nesting_);
  NF_RETURN_IF_ERROR(check_nesting());
  Target target;
  target.line = current().line;
  if (skip_operator("(")) {
    NF_TRY(target, parse_target(allow_attributes));
    NF_RETURN_IF_ERROR(expect_operator(")"));
    return target;
  }
  if (current().type != TokenType::kName) {
    return syntax_error(target.line, "can't assign to '" + describe(current()) + "'");
  }
  const std::string name = next().text;
  for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
    if (name == constant) return syntax_error(target.line, "can't assign to 'const'");
  }
  target.name_id = id_of(name);
  if (allow_attributes && skip_operator(".")) {
    note_use(name);
    NF_TRY(target.attribute, expect_name());
  } else if (name == "loop" && loop_depth_ > 0) {
    return syntax_error(target.line, "Can't assign to special loop variable in for-loop target");
  }
  return target;
}

Result<Target> Parser::parse_target(bool allow_attributes) {
  Target tuple;
  tuple.line = current().line;
  while (true) {
    const bool at_end = current().type == TokenType::kVariableEnd || current().type == TokenType::kBlockEnd ||
                        current().is_operator(")");
    if (at_end) {
      if (!tuple.is_tuple)
        return syntax_error(tuple.line, "Expected an expression, got '" + describe(current()) + "'");
      return tuple;
    }
    NF_TRY(Target element, parse_single_target(allow_attributes));
    tuple.elements.push_back(std::move(element));
    if (!skip_operator(",")) break;
    tuple.is_tuple = true;
  }
  if (tuple.is_tuple) return tuple;
  return std::move(tuple.elements[0]);
}

Status Parser::parse_signature(MacroNode& macro) {
  NF_RETURN_IF_ERROR(expect_operator("("));
  bool has_default = false;
  while (!current().is_operator(")")) {
    if (!macro.parameters.empty()) NF_RETURN_IF_ERROR(expect_operator(","));
    Parameter parameter;
    NF_TRY(parameter.name, expect_name());
    parameter.id = id_of(parameter.name);
    if (skip_operator("=")) {
      NF_TRY(parameter.when_absent, parse_expression());
      has_default = true;
    } else if (has_default) {
      return syntax_error(current().line, "non-default argument follows default argument");
    }
    for (const Parameter& other : macro.parameters) {
      if (other.name == parameter.name) {
        return syntax_error(current().line, "duplicate argument '" + parameter.name + "' in a macro");
      }
    }
    macro.parameters.push_back(std::move(parameter));
  }
  next();
  return {};
}

Status Parser::parse_macro_body(MacroNode& macro, std::string_view end_tag) {
  open_macros_.push_back(&macro);
  const int outer_loops = std::exchange(loop_depth_, 0);
  auto body = parse_block_body({end_tag});
  loop_depth_ = outer_loops;
  open_macros_.pop_back();
  if (!body) return forward_error(std::move(body));
  macro.body = std::move(*body);
  next();
  for (const Parameter& parameter : macro.parameters) {
    if (parameter.name == "kwargs") macro.uses_kwargs = false;
    if (parameter.name == "varargs") macro.uses_varargs = false;
    if (parameter.name != "caller" || !macro.uses_caller) continue;
    if (parameter.when_absent == nullptr) {
      return syntax_error(
          macro.line,
          "When defining macros or call blocks the special \"caller\" argument must be omitted or be "
          "given a default.");
    }
  }
  return {};
}

Result<StatementPtr> Parser::parse_macro() {
  auto node = std::make_unique<MacroNode>(next().line);
  const size_t first_unknown = unknown_names_.size();
  NF_TRY(node->name, expect_name());
  if (node->name == "loop" && loop_depth_ > 0) {
    return syntax_error(node->line, "Can't assign to special loop variable in for-loop target");
  }
  node->id = id_of(node->name);
  NF_RETURN_IF_ERROR(parse_signature(*node));
  NF_RETURN_IF_ERROR(parse_macro_body(*node, "endmacro"));
  settle_unknown(first_unknown, UnknownName::Place::kAlways);
  return StatementPtr(std::move(node));
}

Result<StatementPtr> Parser::parse_call_block() {
  auto node = std::make_unique<CallBlockNode>(next().line);
  node->caller = std::make_unique<MacroNode>(node->line);
  size_t first_unknown = unknown_names_.size();
  if (current().is_operator("(")) NF_RETURN_IF_ERROR(parse_signature(*node->caller));
  settle_unknown(first_unknown, UnknownName::Place::kAlways);
  NF_TRY(auto call, parse_expression());
  auto* call_node = dynamic_cast<CallNode*>(call.get());
  if (call_node == nullptr) return syntax_error(node->line, "expected call");
  (void)call.release();
  node->call.reset(call_node);
  first_unknown = unknown_names_.size();
  NF_RETURN_IF_ERROR(parse_macro_body(*node->caller, "endcall"));
  settle_unknown(first_unknown, UnknownName::Place::kAlways);
  return StatementPtr(std::move(node));
}

// transformers marks with it what the assistant wrote; the text is rendered as it stands.
Result<StatementPtr> Parser::parse_generation() {
  auto node = std::make_unique<CallBlockNode>(next().line);
  node->caller = std::make_unique<MacroNode>(node->line);
  const size_t first_unknown = unknown_names_.size();
  NF_RETURN_IF_ERROR(parse_macro_body(*node->caller, "endgeneration"));
  settle_unknown(first_unknown, UnknownName::Place::kAlways);
  return StatementPtr(std::move(node));
}

Result<StatementPtr> Parser::parse_filter_block() {
  auto node = std::make_unique<FilterBlockNode>(next().line);
  const size_t first_unknown = unknown_names_.size();
  NF_TRY(node->filter, parse_filters(nullptr, true));
  NF_TRY(node->body, parse_block_body({"endfilter"}));
  next();
  settle_unknown(first_unknown, UnknownName::Place::kAlways);
  return StatementPtr(std::move(node));
}

Result<StatementPtr> Parser::parse_with() {
  auto node = std::make_unique<WithNode>(next().line);
  while (current().type != TokenType::kBlockEnd) {
    if (!node->variables.empty()) NF_RETURN_IF_ERROR(expect_operator(","));
    NF_TRY(Target target, parse_target(false));
    NF_RETURN_IF_ERROR(expect_operator("="));
    NF_TRY(auto value, parse_expression());
    node->variables.emplace_back(std::move(target), std::move(value));
  }
  const size_t first_unknown = unknown_names_.size();
  NF_TRY(node->body, parse_block_body({"endwith"}));
  next();
  settle_unknown(first_unknown, UnknownName::Place::kAlways);
  return StatementPtr(std::move(node));
}

Result<StatementPtr> Parser::parse_block() {
  auto node = std::make_unique<BlockNode>(next().line);
  NF_TRY(const std::string name, expect_name());
  skip_name("scoped");
  const size_t first_unknown = unknown_names_.size();
  const int outer_loops = std::exchange(loop_depth_, 0);
  NF_TRY(node->body, parse_block_body({"endblock"}));
  loop_depth_ = outer_loops;
  next();
  skip_name(name);
  settle_unknown(first_unknown, UnknownName::Place::kAlways);
  return StatementPtr(std::move(node));
}

Status Parser::parse_print(Body& body) {
  const int line = next().line;
  while (current().type != TokenType::kBlockEnd) {
    if (current().is_operator(",")) next();
    NF_TRY(auto expression, parse_expression());
    body.push_back(std::make_unique<OutputNode>(line, std::move(expression)));
    if (current().type != TokenType::kBlockEnd && !current().is_operator(",")) return unexpected_token(",");
  }
  return {};
}

Result<Tree> parse(std::string_view source) {
  NF_TRY(auto tokens, tokenize(source));
  return Parser(std::move(tokens)).run();
}

}  // namespace nemoforge::text::jinja
