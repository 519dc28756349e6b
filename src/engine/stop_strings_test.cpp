#include "engine/stop_strings.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace nemoforge::engine {
namespace {

struct Outcome {
  std::string text;
  std::optional<size_t> stop_idx;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome run(const std::vector<std::string>& stops, const std::vector<std::string>& pieces,
            bool include = false) {
  StopStrings strings(stops);
  Outcome outcome;
  for (const std::string& piece : pieces) {
    if (const auto match = strings.push(piece, include, outcome.text)) {
      outcome.stop_idx = match->stop_idx;
      return outcome;
    }
  }
  outcome.text += strings.finish();
  return outcome;
}

TEST(StopStrings, passes_text_through_without_stop_strings) {
  EXPECT_EQ(run({}, {"ab", "", "c"}), (Outcome{"abc", {}}));
}

TEST(StopStrings, finds_a_string_that_spans_pieces) {
  EXPECT_EQ(run({"\nUser:"}, {"Hello.", "\nUs", "er", ": x"}), (Outcome{"Hello.", 0}));
  EXPECT_EQ(run({"\nUser:"}, {"Hello.", "\nUs", "er", ": x"}, true), (Outcome{"Hello.\nUser:", 0}));
}

TEST(StopStrings, gives_back_a_beginning_that_does_not_go_on) {
  StopStrings strings({"<end>"});
  std::string out;
  EXPECT_FALSE(strings.push("a<en", false, out));
  EXPECT_EQ(out, "a");
  EXPECT_FALSE(strings.push("<end", false, out));
  EXPECT_EQ(out, "a<en");
  EXPECT_FALSE(strings.push("!", false, out));
  EXPECT_EQ(out, "a<en<end!");
  EXPECT_EQ(strings.finish(), "");
  EXPECT_EQ(run({"<end>"}, {"a<en"}), (Outcome{"a<en", {}}));
}

TEST(StopStrings, finds_a_string_that_begins_within_a_failed_beginning) {
  EXPECT_EQ(run({"aab"}, {"a", "a", "a", "b", "c"}), (Outcome{"a", 0}));
  EXPECT_EQ(run({"abab!"}, {"ababab!"}), (Outcome{"ab", 0}));
}

TEST(StopStrings, prefers_the_string_that_ends_first_then_the_longest) {
  EXPECT_EQ(run({"bcd", "c"}, {"abcd"}), (Outcome{"ab", 1}));
  EXPECT_EQ(run({"c", "abc"}, {"xabc"}), (Outcome{"x", 1}));
}

// The definition without state, on the whole text.
Outcome naive(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<size_t> found;
    for (size_t i = 0; i < stops.size(); ++i) {
      if (std::string_view(text).substr(0, end).ends_with(stops[i]) &&
          (!found || stops[i].size() > stops[*found].size())) {
        found = i;
      }
    }
    if (found) return {text.substr(0, end - stops[*found].size()), found};
  }
  return {text, {}};
}

TEST(StopStrings, finds_what_the_definition_finds_however_the_text_is_cut) {
  Rng rng(31);
  const auto random_text = [&](size_t max_size) {
    std::string text;
    for (size_t i = 1 + rng.below(max_size); i > 0; --i) text += static_cast<char>('a' + rng.below(2));
    return text;
  };
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = 1 + rng.below(3); i > 0; --i) stops.push_back(random_text(7));
    const std::string text = random_text(24);
    std::vector<std::string> pieces;
    for (size_t pos = 0; pos < text.size();) {
      pieces.push_back(text.substr(pos, rng.below(5)));
      pos += pieces.back().size();
    }
    EXPECT_EQ(run(stops, pieces), naive(stops, text)) << text;
  }
}

}  // namespace
}  // namespace nemoforge::engine
