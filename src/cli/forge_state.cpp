#include "cli/forge_state.h"

#include <filesystem>

#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json.h"

namespace nemoforge::cli {
namespace {

using io::Json;

Json to_json(const ForgeSettings& settings) {
  return {{"--model", settings.model},
          {"--problems", settings.problems},
          {"--held-out", settings.held_out_pattern},
          {"--rounds", settings.num_rounds},
          {"--samples", settings.num_samples},
          {"--held-out-samples", settings.samples_of_held_out()},
          {"--temperature", settings.temperature},
          {"--held-out-temperature", settings.temperature_of_held_out()},
          {"--max-tokens", settings.max_tokens ? Json(*settings.max_tokens) : Json()},
          {"--measure", settings.measures_last_only ? "last" : "each"},
          {"--seed", settings.seed},
          {"finetune flags", settings.finetune_flags}};
}

Status check_same(const std::string& path, const Json& earlier, const Json& now) {
  for (const auto& [name, value] : now.items()) {
    const Json was = earlier.value(name, Json());
    if (was == value) continue;
    return error(ErrorCode::kInvalidArgument,
                 path + ": this forge was started with other settings: " + name + " was " +
                     io::dump_json(was) + ", now " + io::dump_json(value),
                 "use the same settings to continue, or another --out");
  }
  return {};
}

}  // namespace

Result<ForgeState> ForgeState::open(const ForgeSettings& settings) {
  ForgeState state;
  state.path_ = settings.path("forge.json");
  const Json now = to_json(settings);
  state.settings_json_ = io::dump_json(now);
  if (!std::filesystem::exists(state.path_)) {
    NF_RETURN_IF_ERROR(state.write());
    return state;
  }
  NF_TRY(const Json earlier, io::read_json_file(state.path_));
  const bool is_state = earlier.is_object() && earlier.value("settings", Json()).is_object() &&
                        earlier.value("done", Json()).is_array();
  if (!is_state) {
    return error(ErrorCode::kInvalidData, state.path_ + " is not the state of a forge", "give another --out");
  }
  NF_RETURN_IF_ERROR(check_same(state.path_, earlier["settings"], now));
  for (const Json& name : earlier["done"]) {
    if (name.is_string()) state.done_.insert(name.get<std::string>());
  }
  return state;
}

bool ForgeState::is_done(const ForgeStage& stage) const {
  return done_.contains(stage.name) && std::filesystem::exists(stage.output);
}

Status ForgeState::set_done(const ForgeStage& stage) {
  done_.insert(stage.name);
  return write();
}

Status ForgeState::write() const {
  NF_TRY(Json settings, io::parse_json(settings_json_));
  const Json json = {{"settings", std::move(settings)}, {"done", done_}};
  return io::write_file_atomically(path_, json.dump(2) + "\n");
}

}  // namespace nemoforge::cli
