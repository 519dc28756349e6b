#include "text/tokenizer/added_tokens.h"

#include <algorithm>

#include "base/check.h"
#include "text/tokenizer/unicode_classes.h"

namespace nemoforge::text {
namespace {

bool is_single_word(std::string_view text, Span span) {
  return !ends_with_word_character(text.substr(0, span.begin)) &&
         !begins_with_word_character(text.substr(span.end));
}

}  // namespace

Result<AddedTokenFinder> AddedTokenFinder::build(std::vector<AddedToken> tokens) {
  AddedTokenFinder finder;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string& content = tokens[i].content;
    if (content.empty() || content.size() > kMaxContentBytes) {
      return error(ErrorCode::kInvalidData, "added token " + std::to_string(tokens[i].id) + " has " +
                                                std::to_string(content.size()) + " bytes, expected 1 to " +
                                                std::to_string(kMaxContentBytes));
    }
    int32_t node = 0;
    for (const char byte : content) node = finder.add_child(node, static_cast<uint8_t>(byte));
    int32_t& token = finder.nodes_[static_cast<size_t>(node)].token;
    if (token >= 0) {
      return error(ErrorCode::kInvalidData, "added token \"" + content + "\" is there twice");
    }
    token = static_cast<int32_t>(i);
    finder.can_begin_[static_cast<uint8_t>(content.front())] = true;
  }
  finder.tokens_ = std::move(tokens);
  return finder;
}

int32_t AddedTokenFinder::child(int32_t node, uint8_t byte) const {
  const std::vector<Edge>& edges = nodes_[static_cast<size_t>(node)].edges;
  const auto found = std::lower_bound(edges.begin(), edges.end(), byte,
                                      [](const Edge& edge, uint8_t value) { return edge.byte < value; });
  return found != edges.end() && found->byte == byte ? found->node : -1;
}

int32_t AddedTokenFinder::add_child(int32_t node, uint8_t byte) {
  if (const int32_t existing = child(node, byte); existing >= 0) return existing;
  const auto added = static_cast<int32_t>(nodes_.size());
  nodes_.emplace_back();
  std::vector<Edge>& edges = nodes_[static_cast<size_t>(node)].edges;
  const auto place = std::lower_bound(edges.begin(), edges.end(), byte,
                                      [](const Edge& edge, uint8_t value) { return edge.byte < value; });
  edges.insert(place, {byte, added});
  return added;
}

AddedTokenFinder::Match AddedTokenFinder::longest_at(std::string_view text, size_t begin) const {
  Match match{{begin, begin}, -1};
  int32_t node = 0;
  for (size_t pos = begin; pos < text.size(); ++pos) {
    node = child(node, static_cast<uint8_t>(text[pos]));
    if (node < 0) break;
    const int32_t token = nodes_[static_cast<size_t>(node)].token;
    if (token >= 0) match = {{begin, pos + 1}, token};
  }
  return match;
}

void AddedTokenFinder::find(std::string_view text, std::vector<TextPart>& parts) const {
  size_t done = 0;  // up to where the text has been handed out
  for (size_t pos = 0; pos < text.size();) {
    if (!can_begin_[static_cast<uint8_t>(text[pos])]) {
      ++pos;
      continue;
    }
    const Match match = longest_at(text, pos);
    if (match.token < 0) {
      ++pos;
      continue;
    }
    // The search goes on behind the token itself, whatever white space the token takes with it.
    pos = match.span.end;
    const AddedToken& token = tokens_[static_cast<size_t>(match.token)];
    Span span = match.span;
    if (token.single_word && !is_single_word(text, span)) continue;
    if (token.lstrip) {
      span.begin = std::max(span.begin - trailing_white_space(text.substr(0, span.begin)), done);
    }
    if (token.rstrip) span.end += leading_white_space(text.substr(span.end));
    if (done < span.begin) parts.push_back({{done, span.begin}, -1});
    parts.push_back({span, token.id});
    done = span.end;
  }
  if (done != text.size()) parts.push_back({{done, text.size()}, -1});
}

}  // namespace nemoforge::text
