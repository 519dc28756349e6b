// The tree of a template. Expressions evaluate and statements execute themselves against an Interpreter; a
// tree never changes once parsed, so many renderings may share it.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/jinja/callables.h"
#include "text/jinja/operators.h"
#include "text/jinja/value.h"

namespace nemoforge::text::jinja {

class Interpreter;

struct Expression {
  explicit Expression(int expression_line) : line(expression_line) {}
  Expression(const Expression&) = delete;
  Expression& operator=(const Expression&) = delete;
  virtual ~Expression() = default;
  [[nodiscard]] virtual Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const = 0;

  // Called for every child while the node is made, so that depth is the height of the tree.
  void over(const std::unique_ptr<Expression>& child) {
    if (child != nullptr) depth = std::max(depth, child->depth + 1);
  }

  int line;
  int depth = 1;
};
using ExpressionPtr = std::unique_ptr<Expression>;

// What a statement leaves behind it: the next statement runs, or the innermost loop goes on or ends.
enum class Flow { kNormal, kContinue, kBreak };

struct Statement {
  explicit Statement(int statement_line) : line(statement_line) {}
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  virtual ~Statement() = default;
  [[nodiscard]] virtual Result<Flow> execute(Interpreter& interpreter, Scope& scope) const = 0;
  int line;
};
using StatementPtr = std::unique_ptr<Statement>;
using Body = std::vector<StatementPtr>;

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> keyword;
  ExpressionPtr spread;          // *args
  ExpressionPtr keyword_spread;  // **kwargs

  void measure(Expression& node) const {
    for (const auto& argument : positional) node.over(argument);
    for (const auto& argument : keyword) node.over(argument.second);
    node.over(spread);
    node.over(keyword_spread);
  }
};

// Where an assignment or a loop stores: a name, an attribute of a namespace, or several of them.
struct Target {
  int line = 0;
  int name_id = 0;
  std::string attribute;  // not empty: name.attribute
  bool is_tuple = false;
  std::vector<Target> elements;
};

struct ConstantNode : Expression {
  ConstantNode(int at, Value constant) : Expression(at), value(std::move(constant)) {}
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  Value value;
};

struct NameNode : Expression {
  NameNode(int at, std::string text, int name_id) : Expression(at), name(std::move(text)), id(name_id) {}
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  std::string name;
  int id;
};

// [..] or (..)
struct SequenceNode : Expression {
  SequenceNode(int at, bool tuple, std::vector<ExpressionPtr> elements)
      : Expression(at), is_tuple(tuple), items(std::move(elements)) {
    for (const auto& item : items) over(item);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  bool is_tuple;
  std::vector<ExpressionPtr> items;
};

struct DictNode : Expression {
  DictNode(int at, std::vector<std::pair<ExpressionPtr, ExpressionPtr>> dict_entries)
      : Expression(at), entries(std::move(dict_entries)) {
    for (const auto& [key, value] : entries) {
      over(key);
      over(value);
    }
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
};

struct BinaryNode : Expression {
  BinaryNode(int at, BinaryOperator binary_op, ExpressionPtr a, ExpressionPtr b)
      : Expression(at), op(binary_op), left(std::move(a)), right(std::move(b)) {
    over(left);
    over(right);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  BinaryOperator op;
  ExpressionPtr left;
  ExpressionPtr right;
};

// `and` or `or`
struct LogicalNode : Expression {
  LogicalNode(int at, bool conjunction, ExpressionPtr a, ExpressionPtr b)
      : Expression(at), is_and(conjunction), left(std::move(a)), right(std::move(b)) {
    over(left);
    over(right);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  bool is_and;
  ExpressionPtr left;
  ExpressionPtr right;
};

enum class UnaryOperator { kNot, kNegate, kPlus };

struct UnaryNode : Expression {
  UnaryNode(int at, UnaryOperator unary_op, ExpressionPtr inner)
      : Expression(at), op(unary_op), operand(std::move(inner)) {
    over(operand);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  UnaryOperator op;
  ExpressionPtr operand;
};

// a < b < c ...
struct CompareNode : Expression {
  CompareNode(int at, ExpressionPtr head, std::vector<std::pair<Comparison, ExpressionPtr>> tail)
      : Expression(at), first(std::move(head)), rest(std::move(tail)) {
    over(first);
    for (const auto& operand : rest) over(operand.second);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  ExpressionPtr first;
  std::vector<std::pair<Comparison, ExpressionPtr>> rest;
};

// a ~ b ~ c
struct ConcatNode : Expression {
  ConcatNode(int at, std::vector<ExpressionPtr> operands) : Expression(at), parts(std::move(operands)) {
    for (const auto& part : parts) over(part);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  std::vector<ExpressionPtr> parts;
};

// then if condition else otherwise
struct ConditionalNode : Expression {
  ConditionalNode(int at, ExpressionPtr test, ExpressionPtr when_true, ExpressionPtr when_false)
      : Expression(at),
        condition(std::move(test)),
        then(std::move(when_true)),
        otherwise(std::move(when_false)) {
    over(condition);
    over(then);
    over(otherwise);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  ExpressionPtr condition;
  ExpressionPtr then;
  ExpressionPtr otherwise;  // null: undefined
};

struct AttributeNode : Expression {
  AttributeNode(int at, ExpressionPtr of, std::string attribute_name)
      : Expression(at), object(std::move(of)), name(std::move(attribute_name)) {
    over(object);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  ExpressionPtr object;
  std::string name;
};

struct SubscriptNode : Expression {
  SubscriptNode(int at, ExpressionPtr of, ExpressionPtr subscript)
      : Expression(at), object(std::move(of)), key(std::move(subscript)) {
    over(object);
    over(key);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  ExpressionPtr object;
  ExpressionPtr key;
};

struct SliceNode : Expression {
  SliceNode(int at, ExpressionPtr of, ExpressionPtr slice_start, ExpressionPtr slice_stop,
            ExpressionPtr slice_step)
      : Expression(at),
        object(std::move(of)),
        start(std::move(slice_start)),
        stop(std::move(slice_stop)),
        step(std::move(slice_step)) {
    over(object);
    over(start);
    over(stop);
    over(step);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  ExpressionPtr object;
  ExpressionPtr start;
  ExpressionPtr stop;
  ExpressionPtr step;
};

struct CallNode : Expression {
  CallNode(int at, ExpressionPtr called, CallArguments call_arguments)
      : Expression(at), callee(std::move(called)), arguments(std::move(call_arguments)) {
    over(callee);
    arguments.measure(*this);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  ExpressionPtr callee;
  CallArguments arguments;
};

struct FilterNode : Expression {
  FilterNode(int at, ExpressionPtr filtered, std::string filter_name, CallArguments filter_arguments)
      : Expression(at),
        operand(std::move(filtered)),
        name(std::move(filter_name)),
        filter(find_filter(name)),
        arguments(std::move(filter_arguments)) {
    over(operand);
    arguments.measure(*this);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  ExpressionPtr operand;  // null at the start of the chain of a filter block: the block's text
  std::string name;
  const Filter* filter;  // null: unknown, an error when it is reached
  CallArguments arguments;
};

struct TestNode : Expression {
  TestNode(int at, ExpressionPtr tested, std::string test_name, CallArguments test_arguments)
      : Expression(at),
        operand(std::move(tested)),
        name(std::move(test_name)),
        test(find_test(name)),
        arguments(std::move(test_arguments)) {
    over(operand);
    arguments.measure(*this);
  }
  Result<Value> evaluate(Interpreter& interpreter, Scope& scope) const override;
  ExpressionPtr operand;
  std::string name;
  const Test* test;  // null: unknown, an error when it is reached
  CallArguments arguments;
};

struct TextNode : Statement {
  TextNode(int at, std::string data) : Statement(at), text(std::move(data)) {}
  Result<Flow> execute(Interpreter& interpreter, Scope& scope) const override;
  std::string text;
};

struct OutputNode : Statement {
  OutputNode(int at, ExpressionPtr printed) : Statement(at), expression(std::move(printed)) {}
  Result<Flow> execute(Interpreter& interpreter, Scope& scope) const override;
  ExpressionPtr expression;
};

struct IfNode : Statement {
  using Statement::Statement;
  Result<Flow> execute(Interpreter& interpreter, Scope& scope) const override;
  std::vector<std::pair<ExpressionPtr, Body>> branches;
  Body otherwise;
};

struct ForNode : Statement {
  using Statement::Statement;
  Result<Flow> execute(Interpreter& interpreter, Scope& scope) const override;
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr condition;  // null: all items
  bool recursive = false;
  Body body;
  Body otherwise;
};

struct LoopControlNode : Statement {
  LoopControlNode(int at, Flow loop_flow) : Statement(at), flow(loop_flow) {}
  Result<Flow> execute(Interpreter& interpreter, Scope& scope) const override;
  Flow flow;
};

struct SetNode : Statement {
  using Statement::Statement;
  Result<Flow> execute(Interpreter& interpreter, Scope& scope) const override;
  Target target;
  ExpressionPtr value;
};

// {% set x %}...{% endset %}, filtered by `filter` where it is not null.
struct SetBlockNode : Statement {
  using Statement::Statement;
  Result<Flow> execute(Interpreter& interpreter, Scope& scope) const override;
  Target target;
  ExpressionPtr filter;
  Body body;
};

struct FilterBlockNode : Statement {
  using Statement::Statement;
  Result<Flow> execute(Interpreter& interpreter, Scope& scope) const override;
  ExpressionPtr filter;
  Body body;
};

struct WithNode : Statement {
  using Statement::Statement;
  Result<Flow> execute(Interpreter& interpreter, Scope& scope) const override;
  std::vector<std::pair<Target, ExpressionPtr>> variables;
  Body body;
};

// {% block name %}: rendered in place, seeing only what is set outside loops.
struct BlockNode : Statement {
  using Statement::Statement;
  Result<Flow> execute(Interpreter& interpreter, Scope& scope) const override;
  Body body;
};

struct Parameter {
  std::string name;
  int id = 0;
  ExpressionPtr when_absent;  // null: undefined
};

// A macro, or (without name) what a call or generation block passes as `caller`.
struct MacroNode : Statement {
  using Statement::Statement;
  Result<Flow> execute(Interpreter& interpreter, Scope& scope) const override;
  std::string name;
  int id = 0;
  std::vector<Parameter> parameters;
  Body body;
  bool uses_caller = false;
  bool uses_kwargs = false;
  bool uses_varargs = false;
};

struct CallBlockNode : Statement {
  using Statement::Statement;
  Result<Flow> execute(Interpreter& interpreter, Scope& scope) const override;
  std::unique_ptr<MacroNode> caller;
  std::unique_ptr<CallNode> call;  // null: a generation block, whose body is rendered in place
};

// A parsed template: its names are numbered, so that scopes need not compare text.
struct Tree {
  Body body;
  std::vector<std::string> names;
  int loop_id = 0;
  int caller_id = 0;
  int kwargs_id = 0;
  int varargs_id = 0;
};

}  // namespace nemoforge::text::jinja
