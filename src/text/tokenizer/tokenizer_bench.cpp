// MB/s of source code on one core (of CPU time: others may use the machine), beside the tokenizers package's
// figure from the same run, and how the time for one long word or one long run of white space grows with its
// length (linear: the same MB/s at 1, 2 and 4 MB).
//
//   nemoforge_text_bench [--benchmark_filter=...]
//
// The source code is the C++ standard library's headers; NEMOFORGE_PYTHON names a Python with tokenizers
// (default .venv/bin/python), without which the package's line is missing and says so.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <set>

#include <benchmark/benchmark.h>

#include "base/check.h"
#include "base/rng.h"
#include "base/temporary_folder.h"
#include "io/file.h"
#include "text/tokenizer/tokenizer.h"

namespace nemoforge::text {
namespace {

const std::string kSource = NEMOFORGE_SOURCE_DIR;
constexpr size_t kMegabyte = 1'000'000;

const Tokenizer& demo() {
  static const Tokenizer tokenizer = [] {
    auto loaded = Tokenizer::load(kSource + "/models/demo");
    NF_CHECK(loaded) << loaded.error().to_string();
    return std::move(*loaded);
  }();
  return tokenizer;
}

// The first 4 MB of the standard library's headers, in the order of their names.
const std::string& source_code() {
  static const std::string text = [] {
    std::set<std::string> paths;
    for (const auto& entry : std::filesystem::recursive_directory_iterator("/usr/include/c++")) {
      if (entry.is_regular_file()) paths.insert(entry.path().string());
    }
    std::string joined;
    for (const std::string& path : paths) {
      if (joined.size() < 4 * kMegabyte) joined += io::read_file(path).value_or("");
    }
    joined.resize(std::min(joined.size(), 4 * kMegabyte));
    return joined;
  }();
  return text;
}

void encode_all(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  size_t num_tokens = 0;
  for (auto _ : state) num_tokens = tokenizer.encode(text).size();
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
  state.counters["bytes_per_token"] = static_cast<double>(text.size()) / static_cast<double>(num_tokens);
}

void source_code_in_one_string(benchmark::State& state) {
  encode_all(state, demo(), source_code());
}
BENCHMARK(source_code_in_one_string)->Unit(benchmark::kMillisecond);

// As a server sees it: texts of 2 KB.
void source_code_in_short_strings(benchmark::State& state) {
  constexpr size_t kBytes = 2000;
  const std::string& text = source_code();
  size_t begin = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(demo().encode(std::string_view(text).substr(begin, kBytes)));
    begin = (begin + kBytes) % (text.size() - kBytes);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kBytes));
}
BENCHMARK(source_code_in_short_strings);

void decode(benchmark::State& state) {
  const std::vector<int32_t> ids = demo().encode(source_code());
  for (auto _ : state) benchmark::DoNotOptimize(demo().decode(ids));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(source_code().size()));
}
BENCHMARK(decode)->Unit(benchmark::kMillisecond);

std::string repeat(std::string_view unit, size_t num_bytes) {
  std::string text;
  while (text.size() < num_bytes) text += unit;
  return text;
}

std::string base64_like(size_t num_bytes) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  Rng rng(1);
  std::string text(num_bytes, ' ');
  for (char& c : text) c = kAlphabet[rng.below(kAlphabet.size())];
  return text;
}

std::string random_letters(size_t num_bytes) {
  Rng rng(2);
  std::string text(num_bytes, ' ');
  for (char& c : text) c = static_cast<char>('a' + rng.below(26));
  return text;
}

using MakeText = std::string (*)(size_t);

void one_long_run(benchmark::State& state, MakeText make) {
  encode_all(state, demo(), make(static_cast<size_t>(state.range(0)) * kMegabyte));
}
#define NF_LONG_RUN(name, make) \
  BENCHMARK_CAPTURE(one_long_run, name, make)->Arg(1)->Arg(2)->Arg(4)->Unit(benchmark::kMillisecond)
NF_LONG_RUN(letter_a, [](size_t n) { return std::string(n, 'a'); });
NF_LONG_RUN(upper_a, [](size_t n) { return std::string(n, 'A'); });
NF_LONG_RUN(equals_signs, [](size_t n) { return std::string(n, '='); });
NF_LONG_RUN(spaces, [](size_t n) { return std::string(n, ' '); });
NF_LONG_RUN(spaces_then_letter, [](size_t n) { return std::string(n, ' ') + 'x'; });
NF_LONG_RUN(newlines, [](size_t n) { return std::string(n, '\n'); });
NF_LONG_RUN(tabs_and_newlines, [](size_t n) { return repeat("\t\n", n); });
NF_LONG_RUN(digits, [](size_t n) { return std::string(n, '7'); });
NF_LONG_RUN(base64, base64_like);
NF_LONG_RUN(random_letters, random_letters);
NF_LONG_RUN(combining_marks, [](size_t n) { return repeat("\xCC\x81", n); });
NF_LONG_RUN(cjk, [](size_t n) { return repeat("\xE4\xBD\xA0\xE5\xA5\xBD", n); });
NF_LONG_RUN(emoji, [](size_t n) { return repeat("\xF0\x9F\x98\x80", n); });
NF_LONG_RUN(special_tokens, [](size_t n) { return repeat("<|im_end|>", n); });
NF_LONG_RUN(almost_special_tokens, [](size_t n) { return repeat("<|im_end", n); });
NF_LONG_RUN(ill_formed_utf8, [](size_t n) { return std::string(n, '\xFF'); });

// The tokenizers package on the same text, in one string and on one thread.
void print_package_speed() {
  const TemporaryFolder folder = TemporaryFolder::create().value();
  const std::string path = folder.path("source_code.txt");
  std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "wb"), &std::fclose);
  if (file == nullptr) return;
  std::fwrite(source_code().data(), 1, source_code().size(), file.get());
  file.reset();
  const char* chosen = std::getenv("NEMOFORGE_PYTHON");
  const std::string python = chosen != nullptr ? chosen : kSource + "/.venv/bin/python";
  const std::string script =
      "import sys,time,tokenizers\n"
      "t=tokenizers.Tokenizer.from_file(sys.argv[1]);s=open(sys.argv[2],errors=\"replace\",newline=\"\")."
      "read()\n"
      "b=[]\n"
      "for _ in range(3):\n "
      "a=time.process_time();t.encode(s,add_special_tokens=False);b.append(time.process_time()-a)\n"
      "m=len(s.encode())/1e6/sorted(b)[1]\n"
      "print(f\"tokenizers {tokenizers.__version__}: source code in one string: {m:.2f} MB/s (median of "
      "3)\")\n";
  const std::string command = "TOKENIZERS_PARALLELISM=false '" + python + "' -c '" + script + "' '" +
                              kSource + "/models/demo/tokenizer.json' '" + path + "'";
  if (std::system(command.c_str()) != 0) std::puts("the tokenizers package could not be run for comparison");
}

}  // namespace
}  // namespace nemoforge::text

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  nemoforge::text::print_package_speed();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
