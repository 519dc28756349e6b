// One rendering of a tree: variables, output, and the limits.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"

namespace nemoforge::text::jinja {

// Variables by name id; what is not here is looked up in the parent.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<int, Value>> variables;
  bool captured = false;  // a macro may look at it later, so it may not be used again

  void set(int id, Value value);
};

// A scope for as long as this lives.
class ScopeGuard {
 public:
  ScopeGuard(Interpreter& interpreter, Scope* parent);
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;
  ~ScopeGuard();
  Scope& operator*() const { return scope_; }

 private:
  Interpreter& interpreter_;
  Scope& scope_;
};

class Interpreter final : public Runtime {
 public:
  Interpreter(const Tree& tree, const Limits& limits);
  ~Interpreter() override;

  // Renders the whole tree with these variables.
  [[nodiscard]] Result<std::string> render(const std::vector<std::pair<std::string, Value>>& variables);

  // For the nodes of the tree.
  [[nodiscard]] Result<Value> evaluate(const Expression& expression, Scope& scope);
  [[nodiscard]] Result<Flow> execute(const Body& body, Scope& scope);
  // Executes the body with its output kept apart, and gives that.
  [[nodiscard]] Result<std::string> capture(const Body& body, Scope& scope, Flow& flow);
  [[nodiscard]] Status write(std::string_view text);
  [[nodiscard]] Value look_up(const NameNode& name, Scope& scope);
  [[nodiscard]] Status assign(const Target& target, Value value, Scope& scope);
  [[nodiscard]] Result<Arguments> evaluate_arguments(const CallArguments& arguments, Scope& scope);
  [[nodiscard]] Result<Flow> run_loop(const ForNode& node, Scope& outer, const Value& iterable,
                                      int64_t depth0);
  [[nodiscard]] Result<std::string> call_macro(const MacroObject& macro, Arguments arguments);
  [[nodiscard]] Value make_macro(const MacroNode& node, Scope& scope);
  [[nodiscard]] Scope& new_scope(Scope* parent);
  // Gives a scope back that was the last made, unless something still holds it.
  void release(Scope& scope);
  [[nodiscard]] Scope& root() { return *root_; }
  [[nodiscard]] const Tree& tree() const { return tree_; }
  // What an attribute assignment needs.
  [[nodiscard]] Status set_attribute(const Target& target, Value value, Scope& scope);

  [[nodiscard]] Result<Value> call(const Value& callee, Arguments arguments) override;
  [[nodiscard]] Status peek_next(LoopObject& loop) override;
  [[nodiscard]] Result<int64_t> loop_length(LoopObject& loop) override;

 private:
  [[nodiscard]] tl::unexpected<Error> locate(Error failure, int line);
  [[nodiscard]] Result<bool> advance(LoopObject& loop);
  [[nodiscard]] Status bind_parameters(const MacroObject& macro, Arguments arguments, Scope& scope);

  const Tree& tree_;
  // A deque: scopes hold pointers to their parents.
  std::deque<Scope> scopes_;
  Scope* root_ = nullptr;
  std::string* out_ = nullptr;
  int depth_ = 0;
  bool located_ = false;  // the error under way names its line
};

}  // namespace nemoforge::text::jinja
