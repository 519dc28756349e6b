// The for statement and its loop variable (interpreter.h).
#include <algorithm>

#include "text/jinja/interpreter.h"

namespace nemoforge::text::jinja {

// Takes the next item that meets the loop's condition, evaluated only now as Jinja's generator does: what the
// body has set so far counts.
Status Interpreter::peek_next(LoopObject& loop) {
  if (loop.peeked) return {};
  IteratorObject& source = *loop.source;
  while (source.next < source.items.size()) {
    Value item = source.items[source.next++];
    if (loop.node->condition != nullptr && !loop.condition_met) {
      const ScopeGuard scope(*this, loop.outer);
      NF_RETURN_IF_ERROR(assign(loop.node->target, item, *scope));
      NF_TRY(const Value condition, evaluate(*loop.node->condition, *scope));
      if (!is_true(condition)) continue;
    }
    loop.after = std::move(item);
    loop.exhausted = false;
    loop.peeked = true;
    return {};
  }
  loop.after = Value();
  loop.exhausted = true;
  loop.peeked = true;
  return {};
}

Result<bool> Interpreter::advance(LoopObject& loop) {
  NF_RETURN_IF_ERROR(peek_next(loop));
  if (loop.exhausted) return false;
  loop.peeked = false;
  ++loop.index0;
  loop.before = std::move(loop.current);
  loop.current = std::move(loop.after);
  loop.after = Value();
  return true;
}

Result<int64_t> Interpreter::loop_length(LoopObject& loop) {
  if (loop.known_length >= 0) return loop.known_length;
  // As Jinja: takes all that is left, and goes on from that list.
  const bool was_peeked = loop.peeked;
  const bool was_exhausted = loop.exhausted;
  const Value after = loop.after;
  std::vector<Value> rest;
  while (true) {
    loop.peeked = false;
    NF_RETURN_IF_ERROR(peek_next(loop));
    if (loop.exhausted) break;
    rest.push_back(std::move(loop.after));
  }
  loop.known_length =
      static_cast<int64_t>(rest.size()) + loop.index0 + 1 + (was_peeked && !was_exhausted ? 1 : 0);
  const Value list = iterator(std::move(rest));
  loop.source = std::static_pointer_cast<IteratorObject>(list.shared());
  // What is left has met the condition already.
  loop.condition_met = true;
  loop.peeked = was_peeked;
  loop.exhausted = was_exhausted;
  loop.after = after;
  return loop.known_length;
}

Result<Flow> Interpreter::run_loop(const ForNode& node, Scope& outer, const Value& iterable, int64_t depth0) {
  auto loop = std::make_shared<LoopObject>();
  loop->node = &node;
  loop->outer = &outer;
  loop->depth0 = depth0;
  if (iterable.is(Kind::kIterator)) {
    loop->source = std::static_pointer_cast<IteratorObject>(iterable.shared());
  } else {
    NF_TRY(auto items, iterate(*this, iterable));
    if (node.condition == nullptr) loop->known_length = static_cast<int64_t>(items.size());
    loop->source = std::static_pointer_cast<IteratorObject>(iterator(std::move(items)).shared());
  }
  adopt(*loop, sizeof(LoopObject), loop->source->depth + 1);
  if (node.recursive) {
    for (Scope* at = &outer; at != nullptr && !at->captured; at = at->parent) at->captured = true;
  }
  const Value loop_value(loop);
  Scope* scope = nullptr;
  bool any_completed = false;
  while (true) {
    NF_TRY(const bool has_item, advance(*loop));
    if (!has_item) break;
    work(16);
    // Each iteration starts without what the one before has set.
    if (scope == nullptr || scope->captured) {
      scope = &new_scope(&outer);
    } else {
      scope->variables.clear();
    }
    scope->set(tree_.loop_id, loop_value);
    NF_RETURN_IF_ERROR(assign(node.target, loop->current, *scope));
    NF_TRY(const Flow flow, execute(node.body, *scope));
    if (flow == Flow::kBreak) break;
    // As in Jinja, an iteration that ends with `continue` does not count for `else`.
    any_completed = any_completed || flow == Flow::kNormal;
  }
  if (scope != nullptr) release(*scope);
  if (any_completed || node.otherwise.empty()) return Flow::kNormal;
  const ScopeGuard else_scope(*this, &outer);
  return execute(node.otherwise, *else_scope);
}

}  // namespace nemoforge::text::jinja
