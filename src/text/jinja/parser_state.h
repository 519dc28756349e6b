// The parser's class, whose parts are parser.cpp (statements) and expression_parser.cpp.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace nemoforge::text::jinja {

// The bound of nesting, in the source and in the height of an expression's tree (a chain of operators is as
// high as it is long). Python's own parser stops near it.
constexpr int kMaxNesting = 200;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  [[nodiscard]] Result<Tree> run();

 private:
  // Counts nesting for as long as it lives.
  class Nesting {
   public:
    explicit Nesting(int& depth) : depth_(depth) { ++depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    ~Nesting() { --depth_; }

   private:
    int& depth_;
  };

  // A filter or test that is not known. Jinja refuses the template for it, unless it stands directly in an
  // `if` or a conditional expression: then only reaching it is an error.
  struct UnknownName {
    enum class Place { kUndecided, kConditional, kAlways };
    std::string what;
    int line;
    Place place = Place::kUndecided;
  };

  // The stream.
  [[nodiscard]] const Token& current() const { return tokens_[pos_]; }
  [[nodiscard]] const Token& look() const { return tokens_[std::min(pos_ + 1, tokens_.size() - 1)]; }
  const Token& next();
  bool skip_operator(std::string_view op);
  bool skip_name(std::string_view name);
  [[nodiscard]] Status expect_operator(std::string_view op);
  [[nodiscard]] Status expect_type(TokenType type, std::string_view description);
  [[nodiscard]] Result<std::string> expect_name();
  [[nodiscard]] tl::unexpected<Error> unexpected_token(std::string_view expected) const;
  [[nodiscard]] Status check_nesting() const;

  // Statements.
  [[nodiscard]] Result<Body> parse_body(std::initializer_list<std::string_view> end_tags);
  [[nodiscard]] Result<Body> parse_block_body(std::initializer_list<std::string_view> end_tags);
  [[nodiscard]] Result<StatementPtr> parse_statement();
  [[nodiscard]] Result<StatementPtr> parse_if();
  [[nodiscard]] Result<StatementPtr> parse_for();
  [[nodiscard]] Result<StatementPtr> parse_loop_control();
  [[nodiscard]] Result<StatementPtr> parse_set();
  [[nodiscard]] Result<StatementPtr> parse_macro();
  [[nodiscard]] Result<StatementPtr> parse_call_block();
  [[nodiscard]] Result<StatementPtr> parse_generation();
  [[nodiscard]] Result<StatementPtr> parse_filter_block();
  [[nodiscard]] Result<StatementPtr> parse_with();
  [[nodiscard]] Result<StatementPtr> parse_block();
  [[nodiscard]] Status parse_print(Body& body);
  [[nodiscard]] Status parse_signature(MacroNode& macro);
  [[nodiscard]] Status parse_macro_body(MacroNode& macro, std::string_view end_tag);
  [[nodiscard]] Result<Target> parse_target(bool allow_attributes);
  [[nodiscard]] Result<Target> parse_single_target(bool allow_attributes);
  [[nodiscard]] tl::unexpected<Error> unknown_tag(const std::string& name, int line) const;

  // Expressions, from the loosest binding to the tightest.
  [[nodiscard]] Result<ExpressionPtr> parse_tuple(bool with_conditional, bool in_parentheses = false);
  [[nodiscard]] Result<ExpressionPtr> parse_expression(bool with_conditional = true);
  [[nodiscard]] Result<ExpressionPtr> parse_conditional();
  [[nodiscard]] Result<ExpressionPtr> parse_or();
  [[nodiscard]] Result<ExpressionPtr> parse_and();
  [[nodiscard]] Result<ExpressionPtr> parse_not();
  [[nodiscard]] Result<ExpressionPtr> parse_comparison();
  [[nodiscard]] Result<ExpressionPtr> parse_sum();
  [[nodiscard]] Result<ExpressionPtr> parse_concatenation();
  [[nodiscard]] Result<ExpressionPtr> parse_product();
  [[nodiscard]] Result<ExpressionPtr> parse_power();
  [[nodiscard]] Result<ExpressionPtr> parse_unary(bool with_filters = true);
  [[nodiscard]] Result<ExpressionPtr> parse_primary();
  [[nodiscard]] Result<ExpressionPtr> parse_postfix(ExpressionPtr operand);
  [[nodiscard]] Result<ExpressionPtr> parse_filters_and_tests(ExpressionPtr operand);
  // One filter after another; `starts_inline`: the first without its bar, as in a filter block.
  [[nodiscard]] Result<ExpressionPtr> parse_filters(ExpressionPtr operand, bool starts_inline = false);
  [[nodiscard]] Result<ExpressionPtr> parse_test(ExpressionPtr operand);
  [[nodiscard]] Result<ExpressionPtr> parse_subscript(ExpressionPtr object);
  [[nodiscard]] Result<ExpressionPtr> parse_list();
  [[nodiscard]] Result<ExpressionPtr> parse_dict();
  [[nodiscard]] Result<CallArguments> parse_arguments();
  [[nodiscard]] Result<std::string> parse_dotted_name();

  template <typename Node, typename... Args>
  [[nodiscard]] Result<ExpressionPtr> make(int line, Args&&... args) {
    auto node = std::make_unique<Node>(line, std::forward<Args>(args)...);
    if (node->depth > kMaxNesting) return syntax_error(line, "the expression is nested too deeply");
    return ExpressionPtr(std::move(node));
  }

  [[nodiscard]] int id_of(const std::string& name);
  void note_use(const std::string& name);
  void note_unknown(std::string what, int line) { unknown_names_.push_back({std::move(what), line}); }
  // Decides the place of the unknown names seen since there were `first` of them.
  void settle_unknown(size_t first, UnknownName::Place place);

  std::vector<Token> tokens_;
  size_t pos_ = 0;
  int nesting_ = 0;
  int loop_depth_ = 0;  // of the innermost macro
  Tree tree_;
  std::unordered_map<std::string, int> ids_;
  std::vector<MacroNode*> open_macros_;
  std::vector<std::string> open_tags_;
  std::vector<UnknownName> unknown_names_;
};

}  // namespace nemoforge::text::jinja
