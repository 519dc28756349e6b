// The file forge.json of a forge's folder: its settings and which stages are done.
#pragma once

#include <set>
#include <string>

#include "base/result.h"
#include "cli/forge_plan.h"

namespace nemoforge::cli {

class ForgeState {
 public:
  // Of the folder settings.out, which must exist: a new state where it has none. kInvalidArgument, naming
  // the setting, where the folder's forge was begun with other settings; kInvalidData where forge.json is
  // not one.
  [[nodiscard]] static Result<ForgeState> open(const ForgeSettings& settings);

  // A stage is done while what it made is there.
  [[nodiscard]] bool is_done(const ForgeStage& stage) const;
  [[nodiscard]] Status set_done(const ForgeStage& stage);

 private:
  ForgeState() = default;
  [[nodiscard]] Status write() const;

  std::string path_;
  std::string settings_json_;
  std::set<std::string> done_;
};

}  // namespace nemoforge::cli
