#include "text/jinja/interpreter.h"

#include <algorithm>

#include "text/jinja/callables.h"
#include "text/jinja/python_text.h"

namespace nemoforge::text::jinja {
namespace {

constexpr int64_t kScopeBytes = 256;  // with a few variables

}  // namespace

void Scope::set(int id, Value value) {
  for (auto& [existing, stored] : variables) {
    if (existing != id) continue;
    stored = std::move(value);
    return;
  }
  variables.emplace_back(id, std::move(value));
}

Interpreter::Interpreter(const Tree& tree, const Limits& limits) : Runtime(limits), tree_(tree) {
  root_ = &new_scope(nullptr);
}

// Here, not in the base class: values go before the meter that counts them.
Interpreter::~Interpreter() {
  scopes_.clear();
}

Scope& Interpreter::new_scope(Scope* parent) {
  Scope& scope = scopes_.emplace_back();
  scope.parent = parent;
  charge(kScopeBytes);
  return scope;
}

void Interpreter::release(Scope& scope) {
  if (scope.captured) return;
  scope.variables.clear();
  if (&scopes_.back() != &scope) return;
  scopes_.pop_back();
  charge(-kScopeBytes);
}

ScopeGuard::ScopeGuard(Interpreter& interpreter, Scope* parent)
    : interpreter_(interpreter), scope_(interpreter.new_scope(parent)) {}

ScopeGuard::~ScopeGuard() {
  interpreter_.release(scope_);
}

Result<std::string> Interpreter::render(const std::vector<std::pair<std::string, Value>>& variables) {
  for (const auto& [name, value] : variables) {
    const auto it = std::find(tree_.names.begin(), tree_.names.end(), name);
    if (it != tree_.names.end()) root_->set(static_cast<int>(it - tree_.names.begin()), value);
  }
  // What the template sets hides the variables given, without changing them.
  Scope& top = new_scope(root_);
  root_ = &top;
  std::string out;
  out_ = &out;
  NF_TRY(const Flow flow, execute(tree_.body, top));
  (void)flow;
  return out;
}

// Puts the line before an error's message, once: the innermost node that fails knows it.
tl::unexpected<Error> Interpreter::locate(Error failure, int line) {
  if (!located_) {
    located_ = true;
    failure.message = "line " + std::to_string(line) + ": " + failure.message;
  }
  return tl::unexpected<Error>(std::move(failure));
}

Result<Value> Interpreter::evaluate(const Expression& expression, Scope& scope) {
  if (++depth_ > limits().max_recursion) {
    --depth_;
    return locate(Error{ErrorCode::kResourceExhausted, "the template recurses too deeply", {}},
                  expression.line);
  }
  work(1);
  auto value = expression.evaluate(*this, scope);
  --depth_;
  if (!value) return locate(std::move(value.error()), expression.line);
  if (auto within = check(); !within) return locate(std::move(within.error()), expression.line);
  return value;
}

Result<Flow> Interpreter::execute(const Body& body, Scope& scope) {
  for (const StatementPtr& statement : body) {
    if (++depth_ > limits().max_recursion) {
      --depth_;
      return locate(Error{ErrorCode::kResourceExhausted, "the template recurses too deeply", {}},
                    statement->line);
    }
    work(1);
    auto flow = statement->execute(*this, scope);
    --depth_;
    if (!flow) return locate(std::move(flow.error()), statement->line);
    if (auto within = check(); !within) return locate(std::move(within.error()), statement->line);
    if (*flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Result<std::string> Interpreter::capture(const Body& body, Scope& scope, Flow& flow) {
  std::string text;
  std::string* outer = std::exchange(out_, &text);
  auto result = execute(body, scope);
  out_ = outer;
  charge(-static_cast<int64_t>(text.size()));
  NF_TRY(flow, std::move(result));
  return text;
}

Status Interpreter::write(std::string_view text) {
  NF_RETURN_IF_ERROR(check_size(static_cast<Int>(out_->size()) + static_cast<Int>(text.size())));
  work(text.size() / 4);
  charge(static_cast<int64_t>(text.size()));
  out_->append(text);
  return {};
}

Value Interpreter::look_up(const NameNode& name, Scope& scope) {
  for (Scope* at = &scope; at != nullptr; at = at->parent) {
    for (const auto& [id, value] : at->variables) {
      if (id == name.id) return value;
    }
  }
  if (const Function* function = find_function(name.name)) {
    auto object = std::make_shared<FunctionObject>(function);
    adopt(*object, sizeof(FunctionObject), 1);
    return Value(std::move(object));
  }
  return undefined(quote(name.name) + " is undefined");
}

Status Interpreter::set_attribute(const Target& target, Value value, Scope& scope) {
  const NameNode name(target.line, tree_.names[static_cast<size_t>(target.name_id)], target.name_id);
  const Value object = look_up(name, scope);
  if (!object.is(Kind::kNamespace)) return type_error("cannot assign attribute on non-namespace object");
  auto& attributes = object.as<NamespaceObject>().attributes;
  for (auto& [key, stored] : attributes) {
    if (key != target.attribute) continue;
    stored = std::move(value);
    return {};
  }
  attributes.emplace_back(target.attribute, std::move(value));
  return {};
}

Status Interpreter::assign(const Target& target, Value value, Scope& scope) {
  if (!target.is_tuple) {
    if (!target.attribute.empty()) return set_attribute(target, std::move(value), scope);
    scope.set(target.name_id, std::move(value));
    return {};
  }
  if (value.is_none() || value.is_number()) {
    return type_error("cannot unpack non-iterable " + std::string(type_name(value)) + " object");
  }
  NF_TRY(auto items, iterate(*this, value));
  if (items.size() != target.elements.size()) {
    if (items.size() > target.elements.size()) {
      return type_error("too many values to unpack (expected " + std::to_string(target.elements.size()) +
                        ")");
    }
    return type_error("not enough values to unpack (expected " + std::to_string(target.elements.size()) +
                      ", got " + std::to_string(items.size()) + ")");
  }
  for (size_t i = 0; i < items.size(); ++i) {
    NF_RETURN_IF_ERROR(assign(target.elements[i], std::move(items[i]), scope));
  }
  return {};
}

Result<Arguments> Interpreter::evaluate_arguments(const CallArguments& arguments, Scope& scope) {
  Arguments out;
  out.positional.reserve(arguments.positional.size());
  for (const auto& argument : arguments.positional) {
    NF_TRY(Value value, evaluate(*argument, scope));
    out.positional.push_back(std::move(value));
  }
  for (const auto& [name, argument] : arguments.keyword) {
    NF_TRY(Value value, evaluate(*argument, scope));
    out.keyword.emplace_back(name, std::move(value));
  }
  if (arguments.spread != nullptr) {
    NF_TRY(const Value value, evaluate(*arguments.spread, scope));
    NF_TRY(auto items, iterate(*this, value));
    std::move(items.begin(), items.end(), std::back_inserter(out.positional));
  }
  if (arguments.keyword_spread != nullptr) {
    NF_TRY(const Value value, evaluate(*arguments.keyword_spread, scope));
    if (value.is_undefined()) return undefined_error(value);
    if (!value.is(Kind::kDict)) {
      return type_error("argument after ** must be a mapping, not " + std::string(type_name(value)));
    }
    for (const auto& [key, item] : value.dict().entries) {
      if (!key.is_string()) return type_error("keywords must be strings");
      for (const auto& keyword : arguments.keyword) {
        if (keyword.first == key.text()) {
          return type_error("got multiple values for keyword argument '" + key.text() + "'");
        }
      }
      out.keyword.emplace_back(key.text(), item);
    }
  }
  return out;
}

Result<Value> Interpreter::call(const Value& callee, Arguments arguments) {
  switch (callee.kind()) {
    case Kind::kUndefined:
      return undefined_error(callee);
    case Kind::kFunction:
      return callee.as<FunctionObject>().function->call(*this, arguments);
    case Kind::kMethod:
      return callee.as<MethodObject>().method->call(*this, callee.as<MethodObject>().self, arguments);
    case Kind::kMacro: {
      NF_TRY(std::string text, call_macro(callee.as<MacroObject>(), std::move(arguments)));
      return string(std::move(text));
    }
    case Kind::kJoiner: {
      auto& joiner = callee.as<JoinerObject>();
      if (!arguments.positional.empty() || !arguments.keyword.empty())
        return type_error("a joiner takes no arguments");
      return string(std::exchange(joiner.used, true) ? joiner.separator : std::string());
    }
    case Kind::kLoop: {
      const auto& loop = callee.as<LoopObject>();
      if (!loop.node->recursive) {
        return type_error("The loop must have the 'recursive' marker to be called recursively.");
      }
      NF_TRY(auto args, bind("loop", arguments, {"iterable"}, 1));
      std::string text;
      std::string* outer = std::exchange(out_, &text);
      auto flow = run_loop(*loop.node, *loop.outer, args.get(0), loop.depth0 + 1);
      out_ = outer;
      charge(-static_cast<int64_t>(text.size()));
      if (!flow) return forward_error(std::move(flow));
      return string(std::move(text));
    }
    default:
      return type_error("'" + std::string(type_name(callee)) + "' object is not callable");
  }
}

Value Interpreter::make_macro(const MacroNode& node, Scope& scope) {
  for (Scope* at = &scope; at != nullptr && !at->captured; at = at->parent) at->captured = true;
  auto macro = std::make_shared<MacroObject>(&node, &scope);
  adopt(*macro, sizeof(MacroObject), 1);
  return Value(std::move(macro));
}

Status Interpreter::bind_parameters(const MacroObject& macro, Arguments arguments, Scope& scope) {
  const MacroNode& node = *macro.node;
  const std::string name = node.name.empty() ? "None" : quote(node.name);
  auto& keyword = arguments.keyword;
  const auto take = [&](std::string_view wanted) -> std::optional<Value> {
    const auto it =
        std::find_if(keyword.begin(), keyword.end(), [&](const auto& k) { return k.first == wanted; });
    if (it == keyword.end()) return std::nullopt;
    Value value = std::move(it->second);
    keyword.erase(it);
    return value;
  };
  std::vector<std::optional<Value>> values(node.parameters.size());
  bool caller_is_parameter = false;
  for (size_t i = 0; i < node.parameters.size(); ++i) {
    if (i < arguments.positional.size()) {
      values[i] = arguments.positional[i];
    } else {
      values[i] = take(node.parameters[i].name);
    }
    caller_is_parameter = caller_is_parameter || node.parameters[i].name == "caller";
  }
  if (node.uses_caller && !caller_is_parameter) {
    const auto caller = take("caller");
    scope.set(tree_.caller_id, caller && !caller->is_none() ? *caller : undefined("No caller defined"));
  }
  if (node.uses_kwargs) {
    std::vector<std::pair<Value, Value>> entries;
    entries.reserve(keyword.size());
    for (auto& [key, value] : keyword) entries.emplace_back(string(key), std::move(value));
    scope.set(tree_.kwargs_id, dict(std::move(entries)));
  } else if (!keyword.empty()) {
    if (std::any_of(keyword.begin(), keyword.end(), [](const auto& k) { return k.first == "caller"; })) {
      return type_error(
          "macro " + name +
          " was invoked with two values for the special caller argument. This is most likely a bug.");
    }
    return type_error("macro " + name + " takes no keyword argument " + quote(keyword[0].first));
  }
  if (node.uses_varargs) {
    std::vector<Value> rest;
    for (size_t i = node.parameters.size(); i < arguments.positional.size(); ++i)
      rest.push_back(arguments.positional[i]);
    scope.set(tree_.varargs_id, tuple(std::move(rest)));
  } else if (arguments.positional.size() > node.parameters.size()) {
    return type_error("macro " + name + " takes not more than " + std::to_string(node.parameters.size()) +
                      " argument(s)");
  }
  for (size_t i = 0; i < node.parameters.size(); ++i) {
    const Parameter& parameter = node.parameters[i];
    if (!values[i] && parameter.when_absent != nullptr) {
      NF_TRY(values[i], evaluate(*parameter.when_absent, scope));
    }
    scope.set(parameter.id,
              values[i] ? *values[i] : undefined("parameter " + quote(parameter.name) + " was not provided"));
  }
  return {};
}

Result<std::string> Interpreter::call_macro(const MacroObject& macro, Arguments arguments) {
  const ScopeGuard scope(*this, macro.scope);
  NF_RETURN_IF_ERROR(bind_parameters(macro, std::move(arguments), *scope));
  Flow flow = Flow::kNormal;
  return capture(macro.node->body, *scope, flow);
}

}  // namespace nemoforge::text::jinja
