// What bounds a rendering, and the making of values under those bounds.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/jinja/value.h"

namespace nemoforge::text::jinja {

struct Limits {
  int64_t max_output_bytes = int64_t{64} << 20;  // of the rendered text, and of any one string
  int64_t max_live_bytes = int64_t{512} << 20;   // of all values alive at once
  int64_t max_steps = 100'000'000;  // evaluated nodes and iterations; copied bytes count a little
  int max_recursion = 500;          // nested evaluations, which macros and recursive loops deepen
  int max_value_depth = 192;        // lists in lists
};

// Counts what a rendering holds and has done. Once over a limit it stays over: the evaluator looks after
// every node, so that the many places that make a value need not.
struct Meter {
  int64_t live_bytes = 0;
  int64_t steps = 0;
  bool too_deep = false;
};

// The arguments of a call, evaluated.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

// Makes values, counts work, and offers to the functions on values what only the interpreter can do.
class Runtime {
 public:
  explicit Runtime(const Limits& limits) : limits_(limits) {}
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  // Empties what may hold cycles, so that everything is freed.
  virtual ~Runtime();

  [[nodiscard]] virtual Result<Value> call(const Value& callee, Arguments arguments) = 0;
  // Fills loop.after and loop.exhausted; a loop with a condition evaluates it here, item by item.
  [[nodiscard]] virtual Status peek_next(LoopObject& loop) = 0;
  // loop.length, which exhausts the source where its length is not known.
  [[nodiscard]] virtual Result<int64_t> loop_length(LoopObject& loop) = 0;

  [[nodiscard]] const Limits& limits() const { return limits_; }

  // Counts `bytes` of copying or searching as work.
  void work(size_t bytes) { meter_.steps += static_cast<int64_t>(bytes / 16) + 1; }

  // The limit that the rendering has passed, if any.
  [[nodiscard]] Status check() const {
    if (meter_.steps <= limits_.max_steps && meter_.live_bytes <= limits_.max_live_bytes &&
        !meter_.too_deep) {
      return {};
    }
    return exhausted();
  }
  // To be asked before making a string or list whose size the template chooses.
  [[nodiscard]] Status check_size(Int bytes) const;

  [[nodiscard]] Value string(std::string text);
  [[nodiscard]] Value markup(std::string text);
  [[nodiscard]] Value list(std::vector<Value> items) { return sequence(Kind::kList, std::move(items)); }
  [[nodiscard]] Value tuple(std::vector<Value> items) { return sequence(Kind::kTuple, std::move(items)); }
  [[nodiscard]] Value pair(Value first, Value second);
  [[nodiscard]] Value iterator(std::vector<Value> items);
  // Later entries replace the values of earlier ones with an equal key. The keys must be hashable.
  [[nodiscard]] Value dict(std::vector<std::pair<Value, Value>> entries);
  [[nodiscard]] Value undefined(std::string hint);
  // Of an access that the sandbox forbids.
  [[nodiscard]] Value unsafe_undefined(std::string_view type, std::string_view attribute);
  [[nodiscard]] Value dict_view(const Value& dict, DictViewKind view);
  [[nodiscard]] Value bound_method(const Value& self, const Method* method);
  [[nodiscard]] Value name_space(std::vector<std::pair<std::string, Value>> attributes);

  // Makes the object counted, with the depth of what it holds.
  void adopt(Object& object, size_t bytes, int depth);
  // Objects that can come to hold themselves; emptied at the end.
  void watch_for_cycles(const Value& value);

 protected:
  // Counts memory that no value holds; negative to give it back.
  void charge(int64_t bytes) { meter_.live_bytes += bytes; }

 private:
  [[nodiscard]] Value sequence(Kind kind, std::vector<Value> items);
  [[nodiscard]] tl::unexpected<Error> exhausted() const;

  Limits limits_;
  Meter meter_;  // outlives every value but those of the template
  std::vector<std::shared_ptr<Object>> cyclic_;
};

}  // namespace nemoforge::text::jinja
