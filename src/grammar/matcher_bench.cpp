// What a grammar costs a token, on a synthetic vocabulary of Nemotron's size: 131072 tokens of letters,
// digits, spaces and punctuation, one to twelve bytes.
#include <set>

#include <benchmark/benchmark.h>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/rng.h"
#include "grammar/matcher.h"

namespace nemoforge::grammar {
namespace {

std::shared_ptr<const TokenTrie> large_trie() {
  static const auto kTrie = [] {
    constexpr std::string_view kLetters = "etaoinshrdlucmfwypvbgkjqxz";
    constexpr std::string_view kOther = "0123456789 \n\"{}[]:,.-_/\\()";
    std::set<std::string> tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.emplace(1, static_cast<char>(byte));
    Rng random(1);
    while (tokens.size() < 131'071) {
      std::string token = random.below(2) == 0 ? " " : "";
      const uint64_t size = 1 + random.below(11);
      const std::string_view letters = random.below(8) == 0 ? kOther : kLetters;
      for (uint64_t i = 0; i < size; ++i)
        token += letters[std::min(random.below(letters.size()), random.below(letters.size()))];
      tokens.insert(std::move(token));
    }
    std::vector<std::string> all(tokens.begin(), tokens.end());
    all.emplace_back();
    const std::vector<std::string_view> views(all.begin(), all.end());
    return std::make_shared<const TokenTrie>(views, std::vector<int32_t>{131'071});
  }();
  return kTrie;
}

std::shared_ptr<const Grammar> bench_grammar() {
  const auto schema = io::parse_json(R"({"type": "object", "properties": {"name": {"type": "string"},
      "tags": {"type": "array", "items": {"type": "string"}}, "n": {"type": "integer"}}, "required": ["name", "n"]})");
  NF_CHECK(schema.has_value());
  auto grammar = from_json_schema(*schema);
  NF_CHECK(grammar.has_value());
  return std::make_shared<const Grammar>(*std::move(grammar));
}

void feed(Matcher& matcher, std::string_view text) {
  const auto trie = large_trie();
  for (const char c : text) {
    for (int32_t id = 0; id < trie->vocab_size(); ++id) {
      const bool is_byte = trie->bytes(id) == std::string_view(&c, 1);
      NF_CHECK(!is_byte || matcher.accept(id).has_value());
    }
  }
}

// A state seen for the first time: the whole vocabulary is walked.
void BM_first_mask(benchmark::State& state, std::string_view text) {
  const auto grammar = bench_grammar();
  Matcher fed(grammar, large_trie());
  feed(fed, text);
  for (auto _ : state) {
    Matcher matcher = fed;
    benchmark::DoNotOptimize(matcher.mask()->data());
  }
}
BENCHMARK_CAPTURE(BM_first_mask, at_the_start, "");
BENCHMARK_CAPTURE(BM_first_mask, in_a_string, "{\"name\": \"ab");
BENCHMARK_CAPTURE(BM_first_mask, in_a_number, "{\"name\": \"ab\", \"n\": 1");

// A string as it grows: every token's mask and step.
void BM_token_in_a_string(benchmark::State& state) {
  Matcher matcher(bench_grammar(), large_trie());
  feed(matcher, "{\"name\": \"");
  for (auto _ : state) {
    benchmark::DoNotOptimize(matcher.mask()->data());
    NF_CHECK(matcher.accept(1000).has_value());
  }
}
BENCHMARK(BM_token_in_a_string);

}  // namespace
}  // namespace nemoforge::grammar

BENCHMARK_MAIN();
