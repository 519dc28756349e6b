// Jinja templates as Hugging Face's chat templates use them: the language of Jinja 3.1 set up as transformers
// does (an immutable sandbox; trim_blocks, lstrip_blocks; break and continue; tojson without HTML escapes;
// the `generation` block; raise_exception and strftime_now), byte for byte what Jinja renders. Not there:
// include, import, extends, autoescape, and the filters pprint, random, urlize and wordwrap; using one is an
// error that names it and the line.
//
// Neither a template nor the values it is given can crash the process or run it out of memory: nesting,
// steps, live memory and output are bounded (Limits), each by an error.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/json.h"
#include "text/jinja/runtime.h"

namespace nemoforge::text::jinja {

struct Tree;

// A parsed template. Immutable: any number of threads may render it at once.
class Template {
 public:
  // kInvalidData or kUnsupported with "line N: ..." where the source is not such a template.
  [[nodiscard]] static Result<Template> parse(std::string_view source);

  // The text with these variables, JSON values as Python's json module would give them to Jinja. Errors are
  // "line N: ...", in Jinja's words: kInvalidArgument for what the template or a value does wrong
  // (raise_exception among it), kResourceExhausted for a limit, kUnsupported for an unknown name.
  [[nodiscard]] Result<std::string> render(const std::vector<std::pair<std::string, io::Json>>& variables,
                                           const Limits& limits = {}) const;

 private:
  explicit Template(std::shared_ptr<const Tree> tree) : tree_(std::move(tree)) {}
  std::shared_ptr<const Tree> tree_;
};

}  // namespace nemoforge::text::jinja
