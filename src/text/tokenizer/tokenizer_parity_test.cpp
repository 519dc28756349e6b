// Our tokenizer against the tokenizers package itself, on tokenizers and texts made at test time.
#include <cstdlib>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/temporary_folder.h"
#include "io/file.h"
#include "io/json.h"
#include "text/tokenizer/stream_decoder.h"
#include "text/tokenizer/tokenizer.h"

namespace nemoforge::text {
namespace {

const std::string kSource = NEMOFORGE_SOURCE_DIR;

std::string python() {
  const char* chosen = std::getenv("NEMOFORGE_PYTHON");
  return chosen != nullptr ? chosen : kSource + "/.venv/bin/python";
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// one[key], or where it is left out because it is the same, `fallback`.
template <typename T>
T value_or(const io::Json& one, const char* key, const T& fallback) {
  const auto found = one.find(key);
  return found == one.end() ? fallback : found->get<T>();
}

void compare(const Tokenizer& tokenizer, const io::Json& one) {
  const std::string text = from_hex(one["bytes"].get<std::string>());
  const auto ids = one["ids"].get<std::vector<int32_t>>();
  const auto framed = value_or(one, "ids_with_specials", ids);
  EXPECT_EQ(tokenizer.encode(text), ids);
  EXPECT_EQ(tokenizer.encode(text, true), framed);
  const auto to_decode = value_or(one, "ids_to_decode", framed);
  const auto decoded = one["decoded"].get<std::string>();
  EXPECT_EQ(tokenizer.decode(to_decode), decoded);
  EXPECT_EQ(tokenizer.decode(to_decode, true), value_or(one, "decoded_without_specials", decoded));
  StreamDecoder stream(tokenizer);
  std::string joined;
  for (const int32_t id : to_decode) joined += stream.push(id);
  joined += stream.finish();
  EXPECT_EQ(joined, decoded);
}

TEST(TokenizerParity, equals_the_tokenizers_package) {
  const TemporaryFolder folder = TemporaryFolder::create().value();
  const std::string command = "'" + python() + "' '" + kSource +
                              "/tests/python/make_tokenizer_cases.py' --demo '" + kSource +
                              "/models/demo/tokenizer.json' --out '" + folder.path() + "'";
  ASSERT_EQ(std::system(command.c_str()), 0)
      << "this test needs Python with tokenizers and mistral-common: " << command
      << "\nset NEMOFORGE_PYTHON to one that has them";
  const auto manifest = io::read_json_file(folder.path("manifest.json"));
  ASSERT_TRUE(manifest) << manifest.error().to_string();
  size_t num_cases = 0;
  for (const io::Json& name : *manifest) {
    const std::string path = folder.path(name.get<std::string>());
    const auto tokenizer = Tokenizer::load(path);
    ASSERT_TRUE(tokenizer) << tokenizer.error().to_string();
    const auto cases = io::read_json_file(path + "/cases.json");
    ASSERT_TRUE(cases) << cases.error().to_string();
    for (size_t i = 0; i < cases->size(); ++i) {
      compare(*tokenizer, (*cases)[i]);
      ASSERT_FALSE(HasFailure()) << name << ", case " << i << ", bytes " << (*cases)[i]["bytes"];
    }
    num_cases += cases->size();
  }
  EXPECT_GT(num_cases, 20000u);
}

}  // namespace
}  // namespace nemoforge::text
