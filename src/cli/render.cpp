// nemoforge render: a chat request to the prompt that the checkpoint's template makes of it, as a filter.
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/standard_input.h"
#include "io/json.h"
#include "text/chat_template.h"

namespace nemoforge::cli {
namespace {

struct RenderConfig {
  std::string model;
  bool jsonl = false;
};

Status run_render(const RenderConfig& config) {
  NF_TRY(const text::ChatTemplate chat_template, text::ChatTemplate::load(config.model));
  const auto render = [&](std::string_view input) -> Result<std::string> {
    NF_TRY(const io::Json body, io::parse_json(input));
    NF_TRY(const text::ChatRequest request, text::ChatRequest::from_json(body));
    return chat_template.render(request);
  };
  if (!config.jsonl) {
    NF_TRY(const std::string input, read_standard_input());
    NF_TRY(const std::string prompt, render(input));
    return write_standard_output(prompt);
  }
  return convert_lines([&](std::string_view line) -> Result<std::string> {
    NF_TRY(const std::string prompt, render(line));
    return io::dump_json(io::Json(prompt));
  });
}

}  // namespace

void add_render_command(CLI::App& app, Outcome& outcome) {
  auto config = std::make_shared<RenderConfig>();
  CLI::App* command =
      add_command(app, outcome, "render",
                  "Render a chat request (JSON on standard input) to the prompt text, byte for byte",
                  [config] { return run_render(*config); });
  command
      ->add_option("--model", config->model,
                   "Checkpoint folder (chat_template.jinja or tokenizer_config.json)")
      ->required();
  command->add_flag("--jsonl", config->jsonl, "Read one request per line and write one JSON string per line");
  command->footer(
      "The request holds messages and optionally tools, documents, chat_template_kwargs and "
      "add_generation_prompt (default: true).");
}

}  // namespace nemoforge::cli
