#include "grammar/tool_text.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace nemoforge::grammar {
namespace {

constexpr std::array<std::string_view, 3> kEnds = {"</parameter>", "</tool_call>", "\n<parameter="};

// The longest end of `text` that is the beginning of one of kEnds, or all of it.
std::string_view open_part(std::string_view text) {
  while (
      std::none_of(kEnds.begin(), kEnds.end(), [&](std::string_view end) { return end.starts_with(text); }))
    text.remove_prefix(1);
  return text;
}

bool is_end(std::string_view text) {
  return std::find(kEnds.begin(), kEnds.end(), text) != kEnds.end();
}

}  // namespace

// The automaton of Aho and Corasick (1975) as rules: one for each beginning of kEnds that the text may stand
// in.
Expr add_tool_text(GrammarBuilder& builder, bool may_be_empty) {
  std::map<std::string, int32_t, std::less<>> rules;
  for (const std::string_view end : kEnds) {
    for (size_t size = 0; size < end.size(); ++size) rules.try_emplace(std::string(end.substr(0, size)));
  }
  for (auto& [state, rule] : rules) rule = builder.add_rule();
  const auto next_states = [&](const std::string& state) {
    std::map<std::string_view, CodePointSet> sets;
    CodePointSet special;
    for (char c = '\n'; c <= 'z'; ++c) {
      const std::string read = state + c;
      const std::string_view next = open_part(read);
      if (next.empty()) continue;
      special.emplace_back(c, c);
      if (!is_end(next)) sets[rules.find(next)->first].emplace_back(c, c);
    }
    sets[rules.begin()->first] = complement(std::move(special));
    std::vector<Expr> parts;
    for (auto& [next, set] : sets)
      parts.push_back(sequence({one_of(std::move(set)), rule_of(rules.find(next)->second)}));
    return parts;
  };
  for (const auto& [state, rule] : rules) {
    std::vector<Expr> parts = next_states(state);
    parts.push_back(sequence({}));
    builder.define(rule, choice(std::move(parts)));
  }
  if (may_be_empty) return rule_of(rules.at("\n"));
  return choice(next_states("\n"));
}

bool is_tool_text(std::string_view text) {
  const std::string after_tag = "\n" + std::string(text);
  return std::none_of(kEnds.begin(), kEnds.end(),
                      [&](std::string_view end) { return after_tag.find(end) != std::string::npos; });
}

}  // namespace nemoforge::grammar
