#include "store/problem_split.h"

#include <filesystem>

#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json.h"

namespace nemoforge::store {
namespace {

std::string splits_path(const std::string& run_dir) {
  return (std::filesystem::path(run_dir) / "splits.json").string();
}

constexpr const char* kSideNames[] = {"train", "held_out"};

const char* side_name(Split split) {
  return kSideNames[static_cast<size_t>(split)];
}

}  // namespace

Result<ProblemSplits> read_problem_splits(const std::string& run_dir) {
  const std::string path = splits_path(run_dir);
  const auto json = io::read_json_file(path);
  if (!json && json.error().code == ErrorCode::kNotFound) return ProblemSplits();
  if (!json) return forward_error(json);
  ProblemSplits splits;
  for (const Split side : {Split::kTrain, Split::kHeldOut}) {
    const auto ids = json->is_object() ? json->find(side_name(side)) : json->end();
    if (ids == json->end() || !ids->is_array()) {
      return error(ErrorCode::kInvalidData, path + ": expected an object with the list " + side_name(side));
    }
    for (const io::Json& id : *ids) {
      if (!id.is_string() || !splits.emplace(id.get<std::string>(), side).second) {
        return error(ErrorCode::kInvalidData,
                     path + ": expected every problem id once, as a string; found " + io::dump_json(id));
      }
    }
  }
  return splits;
}

Status record_problem_splits(const std::string& run_dir, const ProblemSplits& splits) {
  NF_TRY(ProblemSplits recorded, read_problem_splits(run_dir));
  for (const auto& [id, side] : splits) {
    const auto [entry, is_new] = recorded.emplace(id, side);
    if (!is_new && entry->second != side) {
      return error(ErrorCode::kInvalidArgument,
                   "problem " + id + " is " + side_name(entry->second) + " in the run " + run_dir +
                       " and cannot become " + side_name(side),
                   "problems are kept apart for good: use another run folder for another split");
    }
  }
  io::Json json = {{side_name(Split::kTrain), io::Json::array()},
                   {side_name(Split::kHeldOut), io::Json::array()}};
  for (const auto& [id, side] : recorded) json[side_name(side)].push_back(id);
  return io::write_file_atomically(splits_path(run_dir), io::dump_json(json) + "\n");
}

}  // namespace nemoforge::store
