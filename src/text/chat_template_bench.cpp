// Rendering conversations: what a request costs before its first token is computed.
#include <benchmark/benchmark.h>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "text/chat_template.h"

namespace nemoforge::text {
namespace {

io::Json make_conversation(int64_t num_messages) {
  io::Json messages = io::Json::array({{{"role", "system"}, {"content", "You write kernels."}}});
  for (int64_t i = 1; i < num_messages; ++i) {
    if (i % 2 == 1) {
      messages.push_back({{"role", "user"}, {"content", std::string(400, 'q')}});
    } else {
      messages.push_back({{"role", "assistant"},
                          {"content", std::string(400, 'a')},
                          {"reasoning_content", std::string(400, 'r')}});
    }
  }
  return messages;
}

void render_conversation(benchmark::State& state) {
  const auto source =
      io::read_file(std::string(NEMOFORGE_SOURCE_DIR) + "/tests/data/templates/nemotron3_like.jinja");
  const auto chat = ChatTemplate::from_source(source.value()).value();
  const io::Json messages = make_conversation(state.range(0));
  int64_t num_bytes = 0;
  for (auto _ : state) {
    const auto text = chat.render({.messages = &messages});
    num_bytes += static_cast<int64_t>(text.value().size());
  }
  state.SetBytesProcessed(num_bytes);
}
BENCHMARK(render_conversation)->Arg(2)->Arg(50)->Arg(500)->Unit(benchmark::kMicrosecond);

void parse_template(benchmark::State& state) {
  const auto source =
      io::read_file(std::string(NEMOFORGE_SOURCE_DIR) + "/tests/data/templates/nemotron3_like.jinja");
  for (auto _ : state) benchmark::DoNotOptimize(ChatTemplate::from_source(source.value()).has_value());
}
BENCHMARK(parse_template)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace nemoforge::text
