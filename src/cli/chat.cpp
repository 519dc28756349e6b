// nemoforge chat: a conversation in the terminal.
#include <iostream>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/interrupt.h"
#include "cli/command.h"
#include "cli/generation.h"
#include "cli/standard_input.h"
#include "engine/generate.h"
#include "io/json.h"
#include "text/chat_template.h"
#include "text/reasoning.h"

namespace nemoforge::cli {
namespace {

constexpr std::string_view kHelp =
    "/think on|off   turn reasoning before the answer on or off\n"
    "/system TEXT    set the system message and start a new conversation\n"
    "/reset          start a new conversation\n"
    "/help           show these commands\n"
    "/quit           exit (as does the end of input)\n"
    "Ctrl-C          stop the answer\n";

struct ChatConfig {
  ModelFlags model;
  GenerationFlags generation;
  std::string system;
};

// The conversation so far and how it is printed.
class Conversation {
 public:
  Conversation(const ChatConfig& config, Generator& generator, text::ChatTemplate chat_template)
      : config_(config),
        generator_(generator),
        template_(std::move(chat_template)),
        styled_(::isatty(STDOUT_FILENO) == 1) {
    start_over(config.system);
  }

  // Handles one line; false when the user leaves.
  Result<bool> handle(const std::string& line) {
    if (line.empty()) return true;
    if (line[0] != '/') {
      NF_RETURN_IF_ERROR(answer(line));
      return true;
    }
    if (line == "/quit") return false;
    NF_RETURN_IF_ERROR(write_standard_output(command(line)));
    return true;
  }

 private:
  void start_over(const std::string& system) {
    system_ = system;
    messages_ = io::Json::array();
    if (!system.empty()) messages_.push_back({{"role", "system"}, {"content", system}});
  }

  // Carries out a line that begins with '/' and returns what to say.
  std::string command(const std::string& line) {
    if (line == "/think on" || line == "/think off") {
      thinking_ = line == "/think on";
      return thinking_ ? "reasoning is on\n" : "reasoning is off\n";
    }
    if (line == "/reset") {
      start_over(system_);
      return "started a new conversation\n";
    }
    if (line.starts_with("/system ")) {
      start_over(line.substr(8));
      return "started a new conversation with this system message\n";
    }
    return line == "/help" ? std::string(kHelp) : fmt::format("unknown command {}\n{}", line, kHelp);
  }

  Status answer(const std::string& question) {
    messages_.push_back({{"role", "user"}, {"content", question}});
    const io::Json kwargs = {{"enable_thinking", thinking_}};
    text::ChatRequest chat;
    chat.messages = &messages_;
    chat.chat_template_kwargs = &kwargs;
    NF_TRY(const std::string prompt, template_.render(chat));
    NF_TRY(engine::Request request,
           make_request(config_.generation, generator_.tokenizer->encode(prompt), generator_.loaded.adapter));
    // Ctrl-C from here on ends this answer alone.
    clear_interrupt();
    install_interrupt_handler();
    text::ReasoningParser parser = text::ReasoningParser::for_prompt(prompt);
    text::ReasoningDelta whole;
    const auto show = [&](const text::ReasoningDelta& delta) {
      whole.reasoning += delta.reasoning;
      whole.content += delta.content;
      if (!delta.reasoning.empty()) print(dim(delta.reasoning));
      if (!delta.content.empty())
        print((whole.content.size() == delta.content.size() && !whole.reasoning.empty() ? "\n" : "") +
              delta.content);
    };
    const auto completions =
        engine::generate(*generator_.engine, std::move(request), [&](const engine::RequestOutput& output) {
          show(parser.push(output.text));
          return written_.has_value();  // nobody reads any more: no need to go on
        });
    if (!completions) {
      // The conversation goes on without the question that could not be answered (too long, say).
      messages_.erase(messages_.size() - 1);
      print(completions.error().to_string() + "\n");
      return written_;
    }
    show(parser.finish());
    io::Json message = {{"role", "assistant"}, {"content", whole.content}};
    if (!whole.reasoning.empty()) message["reasoning_content"] = whole.reasoning;
    messages_.push_back(std::move(message));
    print("\n" + dim(statistics(completions->front().finish)) + "\n");
    return written_;
  }

  static std::string statistics(const engine::Finish& finish) {
    const double decode_s =
        std::chrono::duration<double>(finish.timings.last_token - finish.timings.first_token).count();
    const int32_t num_decoded = finish.usage.completion_tokens - 1;
    return fmt::format("[{} + {} tokens, {:.0f} tokens/s, {}]", finish.usage.prompt_tokens,
                       finish.usage.completion_tokens, decode_s > 0 ? num_decoded / decode_s : 0.0,
                       engine::finish_reason_name(finish.reason));
  }

  [[nodiscard]] std::string dim(const std::string& text) const {
    return styled_ ? "\x1b[2m" + text + "\x1b[0m" : text;
  }

  void print(const std::string& text) {
    if (written_) written_ = write_standard_output(text);
  }

  const ChatConfig& config_;
  Generator& generator_;
  text::ChatTemplate template_;
  bool styled_;
  bool thinking_ = true;
  std::string system_;
  io::Json messages_;
  Status written_;
};

Status run_chat(const ChatConfig& config) {
  check_generation_flags(config.generation);
  engine::EngineConfig engine_config;
  engine_config.max_num_seqs = 1;
  NF_TRY(text::ChatTemplate chat_template, text::ChatTemplate::load(config.model.model));
  NF_TRY(Generator generator, make_generator(config.model, engine_config));
  Conversation conversation(config, generator, std::move(chat_template));
  const bool interactive = ::isatty(STDIN_FILENO) == 1;
  if (interactive) NF_RETURN_IF_ERROR(write_standard_output("Type a message, or /help for the commands.\n"));
  for (std::string line;;) {
    if (interactive) NF_RETURN_IF_ERROR(write_standard_output("> "));
    if (!std::getline(std::cin, line)) return {};
    NF_TRY(const bool goes_on, conversation.handle(line));
    if (!goes_on) return {};
  }
}

}  // namespace

void add_chat_command(CLI::App& app, Outcome& outcome) {
  auto config = std::make_shared<ChatConfig>();
  CLI::App* command = add_command(app, outcome, "chat", "Chat with the model in the terminal",
                                  [config] { return run_chat(*config); });
  add_model_flags(*command, config->model);
  add_engine_memory_flag(*command, config->model);
  command->add_option("--system", config->system, "System message");
  add_generation_flags(*command, config->generation);
}

}  // namespace nemoforge::cli
