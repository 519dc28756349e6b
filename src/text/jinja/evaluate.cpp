// What each node of the tree does (ast.h).
#include <algorithm>

#include "text/jinja/interpreter.h"
#include "text/jinja/python_text.h"

namespace nemoforge::text::jinja {

Result<Value> ConstantNode::evaluate(Interpreter&, Scope&) const {
  return value;
}

Result<Value> NameNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  return interpreter.look_up(*this, scope);
}

Result<Value> SequenceNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  std::vector<Value> values;
  values.reserve(items.size());
  for (const auto& item : items) {
    NF_TRY(Value value, interpreter.evaluate(*item, scope));
    values.push_back(std::move(value));
  }
  return is_tuple ? interpreter.tuple(std::move(values)) : interpreter.list(std::move(values));
}

Result<Value> DictNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  std::vector<std::pair<Value, Value>> values;
  values.reserve(entries.size());
  for (const auto& [key_node, value_node] : entries) {
    NF_TRY(Value key, interpreter.evaluate(*key_node, scope));
    if (!is_hashable(key)) return type_error("unhashable type: '" + std::string(type_name(key)) + "'");
    NF_TRY(Value value, interpreter.evaluate(*value_node, scope));
    values.emplace_back(std::move(key), std::move(value));
  }
  return interpreter.dict(std::move(values));
}

Result<Value> BinaryNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  NF_TRY(const Value a, interpreter.evaluate(*left, scope));
  NF_TRY(const Value b, interpreter.evaluate(*right, scope));
  return apply_binary(interpreter, op, a, b);
}

Result<Value> LogicalNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  NF_TRY(Value a, interpreter.evaluate(*left, scope));
  if (is_true(a) != is_and) return a;
  return interpreter.evaluate(*right, scope);
}

Result<Value> UnaryNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  NF_TRY(const Value value, interpreter.evaluate(*operand, scope));
  switch (op) {
    case UnaryOperator::kNot:
      return Value(!is_true(value));
    case UnaryOperator::kNegate:
      return negate(value);
    case UnaryOperator::kPlus:
      return unary_plus(value);
  }
  return value;
}

Result<Value> CompareNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  NF_TRY(Value left, interpreter.evaluate(*first, scope));
  for (const auto& [op, operand] : rest) {
    NF_TRY(Value right, interpreter.evaluate(*operand, scope));
    NF_TRY(const bool holds, compare(interpreter, op, left, right));
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Result<Value> ConcatNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  // All values first: a text half built would not be counted while the next part is evaluated.
  std::vector<Value> values;
  values.reserve(parts.size());
  for (const auto& part : parts) {
    NF_TRY(Value value, interpreter.evaluate(*part, scope));
    values.push_back(std::move(value));
  }
  std::string out;
  for (const Value& value : values) {
    if (value.is_string()) {
      out += value.text();
    } else {
      NF_TRY(const std::string text, to_text(interpreter, value));
      out += text;
    }
    NF_RETURN_IF_ERROR(interpreter.check_size(static_cast<Int>(out.size())));
  }
  return interpreter.string(std::move(out));
}

Result<Value> ConditionalNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  NF_TRY(const Value chosen, interpreter.evaluate(*condition, scope));
  if (is_true(chosen)) return interpreter.evaluate(*then, scope);
  if (otherwise != nullptr) return interpreter.evaluate(*otherwise, scope);
  return interpreter.undefined("the inline if-expression on line " + std::to_string(line) +
                               " evaluated to false and no else section was defined.");
}

Result<Value> AttributeNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  NF_TRY(const Value value, interpreter.evaluate(*object, scope));
  return get_attribute(interpreter, value, name);
}

Result<Value> SubscriptNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  NF_TRY(const Value value, interpreter.evaluate(*object, scope));
  NF_TRY(const Value subscript, interpreter.evaluate(*key, scope));
  return get_item(interpreter, value, subscript);
}

Result<Value> SliceNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  NF_TRY(const Value value, interpreter.evaluate(*object, scope));
  Value bounds[3];
  const ExpressionPtr* nodes[3] = {&start, &stop, &step};
  for (size_t i = 0; i < 3; ++i) {
    if (*nodes[i] == nullptr) continue;
    NF_TRY(bounds[i], interpreter.evaluate(**nodes[i], scope));
  }
  return get_slice(interpreter, value, bounds[0], bounds[1], bounds[2]);
}

Result<Value> CallNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  // A method is called without being bound first.
  if (const auto* attribute = dynamic_cast<const AttributeNode*>(callee.get())) {
    NF_TRY(const Value self, interpreter.evaluate(*attribute->object, scope));
    if (const Method* method = find_method(self, attribute->name)) {
      NF_TRY(Arguments evaluated, interpreter.evaluate_arguments(arguments, scope));
      return method->call(interpreter, self, evaluated);
    }
    NF_TRY(const Value function, get_attribute(interpreter, self, attribute->name));
    NF_TRY(Arguments evaluated, interpreter.evaluate_arguments(arguments, scope));
    return interpreter.call(function, std::move(evaluated));
  }
  NF_TRY(const Value function, interpreter.evaluate(*callee, scope));
  NF_TRY(Arguments evaluated, interpreter.evaluate_arguments(arguments, scope));
  return interpreter.call(function, std::move(evaluated));
}

Result<Value> FilterNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  if (filter == nullptr) return error(ErrorCode::kUnsupported, "unknown filter '" + name + "'");
  NF_TRY(const Value value, interpreter.evaluate(*operand, scope));
  NF_TRY(Arguments evaluated, interpreter.evaluate_arguments(arguments, scope));
  return filter->apply(interpreter, value, evaluated);
}

Result<Value> TestNode::evaluate(Interpreter& interpreter, Scope& scope) const {
  if (test == nullptr) return error(ErrorCode::kUnsupported, "unknown test '" + name + "'");
  NF_TRY(const Value value, interpreter.evaluate(*operand, scope));
  NF_TRY(Arguments evaluated, interpreter.evaluate_arguments(arguments, scope));
  NF_TRY(const bool holds, test->holds(interpreter, value, evaluated));
  return Value(holds);
}

Result<Flow> TextNode::execute(Interpreter& interpreter, Scope&) const {
  NF_RETURN_IF_ERROR(interpreter.write(text));
  return Flow::kNormal;
}

Result<Flow> OutputNode::execute(Interpreter& interpreter, Scope& scope) const {
  NF_TRY(const Value value, interpreter.evaluate(*expression, scope));
  if (value.is_string()) {
    NF_RETURN_IF_ERROR(interpreter.write(value.text()));
    return Flow::kNormal;
  }
  NF_TRY(const std::string text, to_text(interpreter, value));
  NF_RETURN_IF_ERROR(interpreter.write(text));
  return Flow::kNormal;
}

Result<Flow> IfNode::execute(Interpreter& interpreter, Scope& scope) const {
  for (const auto& [condition, body] : branches) {
    NF_TRY(const Value chosen, interpreter.evaluate(*condition, scope));
    if (is_true(chosen)) return interpreter.execute(body, scope);
  }
  return interpreter.execute(otherwise, scope);
}

Result<Flow> ForNode::execute(Interpreter& interpreter, Scope& scope) const {
  NF_TRY(const Value items, interpreter.evaluate(*iterable, scope));
  return interpreter.run_loop(*this, scope, items, 0);
}

Result<Flow> LoopControlNode::execute(Interpreter&, Scope&) const {
  return flow;
}

Result<Flow> SetNode::execute(Interpreter& interpreter, Scope& scope) const {
  NF_TRY(Value assigned, interpreter.evaluate(*value, scope));
  NF_RETURN_IF_ERROR(interpreter.assign(target, std::move(assigned), scope));
  return Flow::kNormal;
}

namespace {

// Applies the chain of filters of a block, whose innermost operand is the block's text.
Result<Value> apply_to_text(Interpreter& interpreter, Scope& scope, const Expression& chain, Value text) {
  const auto& node = static_cast<const FilterNode&>(chain);
  if (node.filter == nullptr) return error(ErrorCode::kUnsupported, "unknown filter '" + node.name + "'");
  if (node.operand != nullptr) {
    NF_TRY(text, apply_to_text(interpreter, scope, *node.operand, std::move(text)));
  }
  NF_TRY(Arguments evaluated, interpreter.evaluate_arguments(node.arguments, scope));
  return node.filter->apply(interpreter, text, evaluated);
}

}  // namespace

Result<Flow> SetBlockNode::execute(Interpreter& interpreter, Scope& scope) const {
  const ScopeGuard guard(interpreter, &scope);
  Scope& inner = *guard;
  Flow flow = Flow::kNormal;
  NF_TRY(std::string text, interpreter.capture(body, inner, flow));
  if (flow != Flow::kNormal) return flow;
  Value captured = interpreter.string(std::move(text));
  if (filter != nullptr) {
    NF_TRY(captured, apply_to_text(interpreter, inner, *filter, std::move(captured)));
  }
  NF_RETURN_IF_ERROR(interpreter.assign(target, std::move(captured), scope));
  return Flow::kNormal;
}

Result<Flow> FilterBlockNode::execute(Interpreter& interpreter, Scope& scope) const {
  const ScopeGuard guard(interpreter, &scope);
  Scope& inner = *guard;
  Flow flow = Flow::kNormal;
  NF_TRY(std::string text, interpreter.capture(body, inner, flow));
  if (flow != Flow::kNormal) return flow;
  NF_TRY(const Value filtered,
         apply_to_text(interpreter, inner, *filter, interpreter.string(std::move(text))));
  NF_TRY(const std::string out, to_text(interpreter, filtered));
  NF_RETURN_IF_ERROR(interpreter.write(out));
  return Flow::kNormal;
}

Result<Flow> WithNode::execute(Interpreter& interpreter, Scope& scope) const {
  const ScopeGuard guard(interpreter, &scope);
  Scope& inner = *guard;
  for (const auto& [target, expression] : variables) {
    NF_TRY(Value value, interpreter.evaluate(*expression, scope));
    NF_RETURN_IF_ERROR(interpreter.assign(target, std::move(value), inner));
  }
  return interpreter.execute(body, inner);
}

Result<Flow> BlockNode::execute(Interpreter& interpreter, Scope&) const {
  const ScopeGuard inner(interpreter, &interpreter.root());
  return interpreter.execute(body, *inner);
}

Result<Flow> MacroNode::execute(Interpreter& interpreter, Scope& scope) const {
  scope.set(id, interpreter.make_macro(*this, scope));
  return Flow::kNormal;
}

Result<Flow> CallBlockNode::execute(Interpreter& interpreter, Scope& scope) const {
  const Value macro = interpreter.make_macro(*caller, scope);
  if (call == nullptr) {
    NF_TRY(const std::string text, interpreter.call_macro(macro.as<MacroObject>(), {}));
    NF_RETURN_IF_ERROR(interpreter.write(text));
    return Flow::kNormal;
  }
  NF_TRY(const Value function, interpreter.evaluate(*call->callee, scope));
  NF_TRY(Arguments arguments, interpreter.evaluate_arguments(call->arguments, scope));
  arguments.keyword.emplace_back("caller", macro);
  NF_TRY(const Value result, interpreter.call(function, std::move(arguments)));
  NF_TRY(const std::string text, to_text(interpreter, result));
  NF_RETURN_IF_ERROR(interpreter.write(text));
  return Flow::kNormal;
}

}  // namespace nemoforge::text::jinja
