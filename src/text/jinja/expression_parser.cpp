// The expressions of templates (parser_state.h).
#include <optional>

#include "text/jinja/parser_state.h"

namespace nemoforge::text::jinja {

// One expression, or several with commas between them: a tuple.
Result<ExpressionPtr> Parser::parse_tuple(bool with_conditional, bool in_parentheses) {
  const int line = current().line;
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
  while (true) {
    if (current().type == TokenType::kVariableEnd || current().type == TokenType::kBlockEnd ||
        current().is_operator(")")) {
      break;
    }
    NF_TRY(auto item, parse_expression(with_conditional));
    items.push_back(std::move(item));
    if (!skip_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return std::move(items[0]);
  if (!is_tuple && !in_parentheses) {
    return syntax_error(line, "Expected an expression, got '" + describe(current()) + "'");
  }
  return make<SequenceNode>(line, true, std::move(items));
}

Result<ExpressionPtr> Parser::parse_expression(bool with_conditional) {
  const Nesting nesting(nesting_);
  NF_RETURN_IF_ERROR(check_nesting());
  return with_conditional ? parse_conditional() : parse_or();
}

Result<ExpressionPtr> Parser::parse_conditional() {
  const Nesting nesting(nesting_);
  NF_RETURN_IF_ERROR(check_nesting());
  const size_t first_unknown = unknown_names_.size();
  const int line = current().line;
  NF_TRY(auto expression, parse_or());
  while (skip_name("if")) {
    NF_TRY(auto condition, parse_or());
    ExpressionPtr otherwise;
    if (skip_name("else")) {
      NF_TRY(otherwise, parse_conditional());
    }
    settle_unknown(first_unknown, UnknownName::Place::kConditional);
    NF_TRY(expression,
           make<ConditionalNode>(line, std::move(condition), std::move(expression), std::move(otherwise)));
  }
  return expression;
}

Result<ExpressionPtr> Parser::parse_or() {
  const int line = current().line;
  NF_TRY(auto left, parse_and());
  while (skip_name("or")) {
    NF_TRY(auto right, parse_and());
    NF_TRY(left, make<LogicalNode>(line, false, std::move(left), std::move(right)));
  }
  return left;
}

Result<ExpressionPtr> Parser::parse_and() {
  const int line = current().line;
  NF_TRY(auto left, parse_not());
  while (skip_name("and")) {
    NF_TRY(auto right, parse_not());
    NF_TRY(left, make<LogicalNode>(line, true, std::move(left), std::move(right)));
  }
  return left;
}

Result<ExpressionPtr> Parser::parse_not() {
  const Nesting nesting(nesting_);
  NF_RETURN_IF_ERROR(check_nesting());
  const int line = current().line;
  if (!skip_name("not")) return parse_comparison();
  NF_TRY(auto operand, parse_not());
  return make<UnaryNode>(line, UnaryOperator::kNot, std::move(operand));
}

Result<ExpressionPtr> Parser::parse_comparison() {
  const int line = current().line;
  NF_TRY(auto first, parse_sum());
  std::vector<std::pair<Comparison, ExpressionPtr>> rest;
  constexpr std::pair<std::string_view, Comparison> kComparisons[] = {
      {"==", Comparison::kEq}, {"!=", Comparison::kNe}, {"<", Comparison::kLt},
      {"<=", Comparison::kLe}, {">", Comparison::kGt},  {">=", Comparison::kGe},
  };
  while (true) {
    std::optional<Comparison> op;
    for (const auto& [symbol, comparison] : kComparisons) {
      if (current().is_operator(symbol)) op = comparison;
    }
    if (current().is_name("in")) op = Comparison::kIn;
    if (current().is_name("not") && look().is_name("in")) {
      next();
      op = Comparison::kNotIn;
    }
    if (!op) break;
    next();
    NF_TRY(auto operand, parse_sum());
    rest.emplace_back(*op, std::move(operand));
  }
  if (rest.empty()) return first;
  return make<CompareNode>(line, std::move(first), std::move(rest));
}

Result<ExpressionPtr> Parser::parse_sum() {
  const int line = current().line;
  NF_TRY(auto left, parse_concatenation());
  while (current().is_operator("+") || current().is_operator("-")) {
    const BinaryOperator op = next().text == "+" ? BinaryOperator::kAdd : BinaryOperator::kSub;
    NF_TRY(auto right, parse_concatenation());
    NF_TRY(left, make<BinaryNode>(line, op, std::move(left), std::move(right)));
  }
  return left;
}

Result<ExpressionPtr> Parser::parse_concatenation() {
  const int line = current().line;
  NF_TRY(auto first, parse_product());
  if (!current().is_operator("~")) return first;
  std::vector<ExpressionPtr> parts;
  parts.push_back(std::move(first));
  while (skip_operator("~")) {
    NF_TRY(auto part, parse_product());
    parts.push_back(std::move(part));
  }
  return make<ConcatNode>(line, std::move(parts));
}

Result<ExpressionPtr> Parser::parse_product() {
  const int line = current().line;
  NF_TRY(auto left, parse_power());
  while (true) {
    BinaryOperator op = BinaryOperator::kMul;
    if (current().is_operator("/")) {
      op = BinaryOperator::kDiv;
    } else if (current().is_operator("//")) {
      op = BinaryOperator::kFloorDiv;
    } else if (current().is_operator("%")) {
      op = BinaryOperator::kMod;
    } else if (!current().is_operator("*")) {
      return left;
    }
    next();
    NF_TRY(auto right, parse_power());
    NF_TRY(left, make<BinaryNode>(line, op, std::move(left), std::move(right)));
  }
}

Result<ExpressionPtr> Parser::parse_power() {
  const int line = current().line;
  NF_TRY(auto left, parse_unary());
  while (skip_operator("**")) {
    NF_TRY(auto right, parse_unary());
    NF_TRY(left, make<BinaryNode>(line, BinaryOperator::kPow, std::move(left), std::move(right)));
  }
  return left;
}

Result<ExpressionPtr> Parser::parse_unary(bool with_filters) {
  const Nesting nesting(nesting_);
  NF_RETURN_IF_ERROR(check_nesting());
  const int line = current().line;
  ExpressionPtr operand;
  if (skip_operator("-")) {
    NF_TRY(auto inner, parse_unary(false));
    NF_TRY(operand, make<UnaryNode>(line, UnaryOperator::kNegate, std::move(inner)));
  } else if (skip_operator("+")) {
    NF_TRY(auto inner, parse_unary(false));
    NF_TRY(operand, make<UnaryNode>(line, UnaryOperator::kPlus, std::move(inner)));
  } else {
    NF_TRY(operand, parse_primary());
  }
  NF_TRY(operand, parse_postfix(std::move(operand)));
  if (!with_filters) return operand;
  return parse_filters_and_tests(std::move(operand));
}

Result<ExpressionPtr> Parser::parse_primary() {
  const Token& token = current();
  const int line = token.line;
  switch (token.type) {
    case TokenType::kName: {
      const std::string name = next().text;
      if (name == "true" || name == "True") return make<ConstantNode>(line, Value(true));
      if (name == "false" || name == "False") return make<ConstantNode>(line, Value(false));
      if (name == "none" || name == "None") return make<ConstantNode>(line, Value());
      if (name == "self") return unsupported(line, "'self', the template's blocks,");
      note_use(name);
      return make<NameNode>(line, name, id_of(name));
    }
    case TokenType::kString: {
      std::string text = next().text;
      while (current().type == TokenType::kString) text += next().text;
      return make<ConstantNode>(line, Value::constant(std::move(text)));
    }
    case TokenType::kInteger:
      return make<ConstantNode>(line, Value(next().integer));
    case TokenType::kFloat:
      return make<ConstantNode>(line, Value(next().number));
    default:
      break;
  }
  if (skip_operator("(")) {
    NF_TRY(auto inner, parse_tuple(true, true));
    NF_RETURN_IF_ERROR(expect_operator(")"));
    return inner;
  }
  if (token.is_operator("[")) return parse_list();
  if (token.is_operator("{")) return parse_dict();
  return syntax_error(line, "unexpected '" + describe(token) + "'");
}

Result<ExpressionPtr> Parser::parse_list() {
  const int line = next().line;
  std::vector<ExpressionPtr> items;
  while (!current().is_operator("]")) {
    if (!items.empty()) {
      NF_RETURN_IF_ERROR(expect_operator(","));
      if (current().is_operator("]")) break;
    }
    NF_TRY(auto item, parse_expression());
    items.push_back(std::move(item));
  }
  next();
  return make<SequenceNode>(line, false, std::move(items));
}

Result<ExpressionPtr> Parser::parse_dict() {
  const int line = next().line;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
  while (!current().is_operator("}")) {
    if (!entries.empty()) {
      NF_RETURN_IF_ERROR(expect_operator(","));
      if (current().is_operator("}")) break;
    }
    NF_TRY(auto key, parse_expression());
    NF_RETURN_IF_ERROR(expect_operator(":"));
    NF_TRY(auto value, parse_expression());
    entries.emplace_back(std::move(key), std::move(value));
  }
  next();
  return make<DictNode>(line, std::move(entries));
}

Result<ExpressionPtr> Parser::parse_postfix(ExpressionPtr operand) {
  while (true) {
    const int line = current().line;
    if (current().is_operator(".") || current().is_operator("[")) {
      NF_TRY(operand, parse_subscript(std::move(operand)));
    } else if (current().is_operator("(")) {
      NF_TRY(auto arguments, parse_arguments());
      NF_TRY(operand, make<CallNode>(line, std::move(operand), std::move(arguments)));
    } else {
      return operand;
    }
  }
}

Result<ExpressionPtr> Parser::parse_filters_and_tests(ExpressionPtr operand) {
  while (true) {
    const int line = current().line;
    if (current().is_operator("|")) {
      NF_TRY(operand, parse_filters(std::move(operand)));
    } else if (current().is_name("is")) {
      NF_TRY(operand, parse_test(std::move(operand)));
    } else if (current().is_operator("(")) {
      NF_TRY(auto arguments, parse_arguments());
      NF_TRY(operand, make<CallNode>(line, std::move(operand), std::move(arguments)));
    } else {
      return operand;
    }
  }
}

Result<ExpressionPtr> Parser::parse_subscript(ExpressionPtr object) {
  const Token& open = next();
  const int line = open.line;
  if (open.text == ".") {
    const Token& attribute = next();
    if (attribute.type == TokenType::kName)
      return make<AttributeNode>(line, std::move(object), attribute.text);
    if (attribute.type != TokenType::kInteger) return syntax_error(attribute.line, "expected name or number");
    NF_TRY(auto key, make<ConstantNode>(line, Value(attribute.integer)));
    return make<SubscriptNode>(line, std::move(object), std::move(key));
  }
  std::vector<ExpressionPtr> keys;
  while (!current().is_operator("]")) {
    if (!keys.empty()) NF_RETURN_IF_ERROR(expect_operator(","));
    ExpressionPtr bounds[3];
    size_t num_colons = 0;
    while (!current().is_operator("]") && !current().is_operator(",")) {
      if (num_colons < 2 && skip_operator(":")) {
        ++num_colons;
        continue;
      }
      if (bounds[num_colons] != nullptr) return unexpected_token("]");
      NF_TRY(bounds[num_colons], parse_expression());
    }
    if (num_colons == 0) {
      if (bounds[0] == nullptr)
        return syntax_error(current().line, "unexpected '" + describe(current()) + "'");
      keys.push_back(std::move(bounds[0]));
      continue;
    }
    if (!keys.empty() || current().is_operator(",")) {
      return syntax_error(line, "a slice among several subscripts is not supported");
    }
    next();
    return make<SliceNode>(line, std::move(object), std::move(bounds[0]), std::move(bounds[1]),
                           std::move(bounds[2]));
  }
  next();
  if (keys.size() == 1) return make<SubscriptNode>(line, std::move(object), std::move(keys[0]));
  NF_TRY(auto key, make<SequenceNode>(line, true, std::move(keys)));
  return make<SubscriptNode>(line, std::move(object), std::move(key));
}

Result<CallArguments> Parser::parse_arguments() {
  const int line = current().line;
  NF_RETURN_IF_ERROR(expect_operator("("));
  CallArguments arguments;
  const auto invalid = [&] { return syntax_error(line, "invalid syntax for function call expression"); };
  bool first = true;
  while (!current().is_operator(")")) {
    if (!first) {
      NF_RETURN_IF_ERROR(expect_operator(","));
      if (current().is_operator(")")) break;
    }
    first = false;
    if (skip_operator("*")) {
      if (arguments.spread != nullptr || arguments.keyword_spread != nullptr) return invalid();
      NF_TRY(arguments.spread, parse_expression());
    } else if (skip_operator("**")) {
      if (arguments.keyword_spread != nullptr) return invalid();
      NF_TRY(arguments.keyword_spread, parse_expression());
    } else if (current().type == TokenType::kName && look().is_operator("=")) {
      if (arguments.keyword_spread != nullptr) return invalid();
      std::string name = next().text;
      next();
      for (const auto& keyword : arguments.keyword) {
        if (keyword.first == name) return syntax_error(line, "keyword argument repeated: " + name);
      }
      NF_TRY(auto value, parse_expression());
      arguments.keyword.emplace_back(std::move(name), std::move(value));
    } else {
      if (arguments.spread != nullptr || arguments.keyword_spread != nullptr || !arguments.keyword.empty()) {
        return invalid();
      }
      NF_TRY(auto value, parse_expression());
      arguments.positional.push_back(std::move(value));
    }
  }
  next();
  return arguments;
}

Result<std::string> Parser::parse_dotted_name() {
  NF_TRY(std::string name, expect_name());
  while (skip_operator(".")) {
    NF_TRY(const std::string part, expect_name());
    name += "." + part;
  }
  return name;
}

Result<ExpressionPtr> Parser::parse_filters(ExpressionPtr operand, bool starts_inline) {
  while (current().is_operator("|") || starts_inline) {
    if (!starts_inline) next();
    starts_inline = false;
    const int line = current().line;
    NF_TRY(std::string name, parse_dotted_name());
    CallArguments arguments;
    if (current().is_operator("(")) {
      NF_TRY(arguments, parse_arguments());
    }
    if (find_filter(name) == nullptr) note_unknown("filter '" + name + "'", line);
    NF_TRY(operand, make<FilterNode>(line, std::move(operand), std::move(name), std::move(arguments)));
  }
  return operand;
}

Result<ExpressionPtr> Parser::parse_test(ExpressionPtr operand) {
  const int line = next().line;
  const bool negated = skip_name("not");
  NF_TRY(std::string name, parse_dotted_name());
  CallArguments arguments;
  const Token& token = current();
  const bool starts_operand = token.type == TokenType::kName || token.type == TokenType::kString ||
                              token.type == TokenType::kInteger || token.type == TokenType::kFloat ||
                              token.is_operator("[") || token.is_operator("{");
  if (token.is_operator("(")) {
    NF_TRY(arguments, parse_arguments());
  } else if (starts_operand && !token.is_name("else") && !token.is_name("or") && !token.is_name("and")) {
    if (token.is_name("is")) return syntax_error(token.line, "You cannot chain multiple tests with is");
    // As Jinja: a name that follows is an argument, `if` among them.
    NF_TRY(auto argument, parse_primary());
    NF_TRY(argument, parse_postfix(std::move(argument)));
    arguments.positional.push_back(std::move(argument));
  }
  if (find_test(name) == nullptr) note_unknown("test '" + name + "'", line);
  NF_TRY(auto test, make<TestNode>(line, std::move(operand), std::move(name), std::move(arguments)));
  if (!negated) return test;
  return make<UnaryNode>(line, UnaryOperator::kNot, std::move(test));
}

}  // namespace nemoforge::text::jinja
