// The interpreter against real Jinja2, on cases made at test time.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "io/json.h"
#include "text/jinja/template.h"

namespace nemoforge::text::jinja {
namespace {

const std::string kSource = NEMOFORGE_SOURCE_DIR;

std::string python() {
  const char* chosen = std::getenv("NEMOFORGE_PYTHON");
  return chosen != nullptr ? chosen : kSource + "/.venv/bin/python";
}

// What the command writes; nothing where it fails.
std::optional<std::string> output_of(const std::string& command) {
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  if (pipe == nullptr) return std::nullopt;
  std::string out;
  char buffer[1 << 16];
  while (const size_t size = std::fread(buffer, 1, sizeof(buffer), pipe.get())) out.append(buffer, size);
  return pclose(pipe.release()) == 0 ? std::optional<std::string>(std::move(out)) : std::nullopt;
}

Result<std::string> render(const io::Json& one, const io::Json& shared) {
  NF_TRY(const Template parsed, Template::parse(one["source"].get<std::string>()));
  std::vector<std::pair<std::string, io::Json>> variables;
  for (const auto& [name, value] : one["variables"].items()) variables.emplace_back(name, value);
  if (one["shared"].get<bool>()) {
    for (const auto& [name, value] : shared.items()) {
      if (!one["variables"].contains(name)) variables.emplace_back(name, value);
    }
  }
  return parsed.render(variables);
}

TEST(JinjaParity, renders_what_jinja2_renders_and_refuses_what_it_refuses) {
  const std::string command =
      "'" + python() + "' '" + kSource + "/tests/python/make_template_cases.py' --seed 20260101 --random 300";
  const auto output = output_of(command);
  ASSERT_TRUE(output) << "this test needs Python with jinja2 and mistral-common: " << command
                      << "\nset NEMOFORGE_PYTHON to one that has them";
  io::Json shared;
  size_t num_texts = 0;
  size_t num_errors = 0;
  for (size_t begin = 0; begin < output->size();) {
    const size_t end = output->find('\n', begin);
    const auto one = io::parse_json(std::string_view(*output).substr(begin, end - begin));
    ASSERT_TRUE(one) << one.error().to_string();
    const bool is_first = begin == 0;
    begin = end + 1;
    if (is_first) {
      shared = *one;
      continue;
    }
    const auto ours = render(*one, shared);
    if (one->contains("text")) {
      ++num_texts;
      ASSERT_TRUE(ours) << (*one)["name"] << "\n" << (*one)["source"] << "\n" << ours.error().to_string();
      ASSERT_EQ(*ours, (*one)["text"].get<std::string>()) << (*one)["name"] << "\n" << (*one)["source"];
    } else {
      ++num_errors;
      ASSERT_FALSE(ours) << (*one)["name"] << "\n"
                         << (*one)["source"] << "\n"
                         << (*one)["error"] << "\n"
                         << *ours;
      ASSERT_EQ(ours.error().message.rfind("line ", 0), 0u) << (*one)["source"] << "\n"
                                                            << ours.error().to_string();
    }
  }
  EXPECT_GT(num_texts, 1000u);
  EXPECT_GT(num_errors, 500u);
}

}  // namespace
}  // namespace nemoforge::text::jinja
