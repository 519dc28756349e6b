#include "text/tokenizer/pre_tokenizer.h"

#include <algorithm>

namespace nemoforge::text {
namespace {

struct Part {
  Span span;
  bool is_match;
};

// The matches and what lies between them; together they are the whole piece. Spans are relative to it.
std::vector<Part> find_parts(const Split& split, std::string_view piece) {
  std::vector<Span> matches;
  split.regex.find_all(piece, matches);
  std::vector<Part> parts;
  parts.reserve(2 * matches.size() + 1);
  size_t end = 0;
  for (const Span match : matches) {
    if (end != match.begin) parts.push_back({{end, match.begin}, split.invert});
    parts.push_back({match, !split.invert});
    end = match.end;
  }
  if (end != piece.size()) parts.push_back({{end, piece.size()}, split.invert});
  return parts;
}

// Joins a match to the part before it, unless that is a match too. Walking backwards, "before" is the next.
template <typename Iterator, typename Join>
void merge_matches(Iterator begin, Iterator end, std::vector<Span>& merged, const Join& join) {
  bool previous_is_match = false;
  for (auto part = begin; part != end; ++part) {
    if (part->is_match && !previous_is_match && !merged.empty()) {
      join(merged.back(), part->span);
    } else {
      merged.push_back(part->span);
    }
    previous_is_match = part->is_match;
  }
}

std::vector<Span> arrange(const std::vector<Part>& parts, SplitBehavior behavior) {
  std::vector<Span> spans;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      for (const Part& part : parts) spans.push_back(part.span);
      break;
    case SplitBehavior::kRemoved:
      for (const Part& part : parts) {
        if (!part.is_match) spans.push_back(part.span);
      }
      break;
    case SplitBehavior::kContiguous: {
      bool previous_is_match = false;
      for (const Part& part : parts) {
        if (part.is_match == previous_is_match && !spans.empty()) {
          spans.back().end = part.span.end;
        } else {
          spans.push_back(part.span);
        }
        previous_is_match = part.is_match;
      }
      break;
    }
    case SplitBehavior::kMergedWithPrevious:
      merge_matches(parts.begin(), parts.end(), spans, [](Span& into, Span span) { into.end = span.end; });
      break;
    case SplitBehavior::kMergedWithNext:
      merge_matches(parts.rbegin(), parts.rend(), spans,
                    [](Span& into, Span span) { into.begin = span.begin; });
      std::reverse(spans.begin(), spans.end());
      break;
  }
  return spans;
}

// The common case, a pattern whose matches and gaps are all kept apart, without the detour over parts.
void isolate_matches(const SplitRegex& regex, std::string_view text, Span piece, std::vector<Span>& pieces) {
  const size_t first = pieces.size();
  regex.find_all(text.substr(piece.begin, piece.end - piece.begin), pieces);
  size_t end = piece.begin;
  bool has_gaps = false;
  for (size_t i = first; i < pieces.size(); ++i) {
    pieces[i] = {pieces[i].begin + piece.begin, pieces[i].end + piece.begin};
    has_gaps = has_gaps || pieces[i].begin != end || pieces[i].begin == pieces[i].end;
    end = pieces[i].end;
  }
  if (has_gaps) {
    const std::vector<Span> matches(pieces.begin() + static_cast<std::ptrdiff_t>(first), pieces.end());
    pieces.resize(first);
    end = piece.begin;
    for (const Span match : matches) {
      if (end != match.begin) pieces.push_back({end, match.begin});
      if (match.begin != match.end) pieces.push_back(match);
      end = match.end;
    }
  }
  if (end != piece.end) pieces.push_back({end, piece.end});
}

}  // namespace

void apply_split(const Split& split, std::string_view text, Span piece, std::vector<Span>& pieces) {
  if (split.behavior == SplitBehavior::kIsolated) {  // inverted or not: everything is kept
    isolate_matches(split.regex, text, piece, pieces);
    return;
  }
  const std::string_view part_text = text.substr(piece.begin, piece.end - piece.begin);
  for (const Span span : arrange(find_parts(split, part_text), split.behavior)) {
    if (span.begin != span.end) pieces.push_back({piece.begin + span.begin, piece.begin + span.end});
  }
}

void PreTokenizer::cut(std::string_view text, Words& words) const {
  words.text.assign(text);
  words.spans.clear();
  if (!text.empty()) words.spans.push_back({0, text.size()});
  std::vector<Span> next;
  for (const Split& split : splits_) {
    next.clear();
    for (const Span span : words.spans) apply_split(split, words.text, span, next);
    words.spans.swap(next);
  }
  if (add_prefix_space_) {
    std::string spaced;
    for (Span& span : words.spans) {
      const size_t begin = spaced.size();
      if (words.text[span.begin] != ' ') spaced += ' ';
      spaced.append(words.text, span.begin, span.end - span.begin);
      span = {begin, spaced.size()};
    }
    words.text.swap(spaced);
  }
  if (word_regex_) {
    next.clear();
    for (const Span span : words.spans) isolate_matches(*word_regex_, words.text, span, next);
    words.spans.swap(next);
  }
}

}  // namespace nemoforge::text
