// nemoforge tokenize and detokenize: text to token ids and back, as filters.
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/standard_input.h"
#include "io/json.h"
#include "text/tokenizer/tokenizer.h"

namespace nemoforge::cli {
namespace {

struct TokenizeConfig {
  std::string model;
  bool jsonl = false;
  bool add_special_tokens = false;
};

struct DetokenizeConfig {
  std::string model;
  bool jsonl = false;
  bool skip_special_tokens = false;
};

Result<std::vector<int32_t>> ids_from_json(std::string_view text) {
  NF_TRY(const io::Json value, io::parse_json(text));
  if (!value.is_array()) return error(ErrorCode::kInvalidData, "expected a JSON array of token ids");
  std::vector<int32_t> ids;
  ids.reserve(value.size());
  for (const io::Json& item : value) {
    if (!item.is_number_integer() || item.get<int64_t>() < 0 || item.get<int64_t>() > INT32_MAX) {
      return error(ErrorCode::kInvalidData, "expected token ids, got " + io::dump_json(item).substr(0, 100));
    }
    ids.push_back(item.get<int32_t>());
  }
  return ids;
}

Status run_tokenize(const TokenizeConfig& config) {
  NF_TRY(const text::Tokenizer tokenizer, text::Tokenizer::load(config.model));
  const auto encode = [&](std::string_view input) {
    return io::dump_json(io::Json(tokenizer.encode(input, config.add_special_tokens)));
  };
  if (!config.jsonl) {
    NF_TRY(const std::string input, read_standard_input());
    return write_standard_output(encode(input) + '\n');
  }
  return convert_lines([&](std::string_view line) -> Result<std::string> {
    NF_TRY(const io::Json value, io::parse_json(line));
    if (!value.is_string()) return error(ErrorCode::kInvalidData, "expected a JSON string");
    return encode(value.get_ref<const std::string&>());
  });
}

Status run_detokenize(const DetokenizeConfig& config) {
  NF_TRY(const text::Tokenizer tokenizer, text::Tokenizer::load(config.model));
  const auto decode = [&](std::string_view input) -> Result<std::string> {
    NF_TRY(const std::vector<int32_t> ids, ids_from_json(input));
    return tokenizer.decode(ids, config.skip_special_tokens);
  };
  if (!config.jsonl) {
    NF_TRY(const std::string input, read_standard_input());
    NF_TRY(const std::string output, decode(input));
    return write_standard_output(output);
  }
  return convert_lines([&](std::string_view line) -> Result<std::string> {
    NF_TRY(const std::string output, decode(line));
    return io::dump_json(io::Json(output));
  });
}

}  // namespace

void add_tokenize_command(CLI::App& app, Outcome& outcome) {
  auto config = std::make_shared<TokenizeConfig>();
  CLI::App* command =
      add_command(app, outcome, "tokenize", "Convert text on standard input to a JSON array of token ids",
                  [config] { return run_tokenize(*config); });
  command->add_option("--model", config->model, "Checkpoint folder (tokenizer.json)")->required();
  command->add_flag("--jsonl", config->jsonl,
                    "Read one JSON string per line and write one array per line; blank lines are skipped");
  command->add_flag("--add-special-tokens", config->add_special_tokens,
                    "Add the special tokens that the tokenizer's post-processor puts around a text");
}

void add_detokenize_command(CLI::App& app, Outcome& outcome) {
  auto config = std::make_shared<DetokenizeConfig>();
  CLI::App* command =
      add_command(app, outcome, "detokenize", "Convert a JSON array of token ids on standard input to text",
                  [config] { return run_detokenize(*config); });
  command->add_option("--model", config->model, "Checkpoint folder (tokenizer.json)")->required();
  command->add_flag("--jsonl", config->jsonl,
                    "Read one array per line and write one JSON string per line; blank lines are skipped");
  command->add_flag("--skip-special-tokens", config->skip_special_tokens,
                    "Omit special tokens from the text");
}

}  // namespace nemoforge::cli
