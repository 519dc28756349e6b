#include "io/safetensors_folder.h"

#include <filesystem>
#include <memory>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "io/json.h"

namespace nemoforge::io {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

// A file name without a folder: an index that comes from a stranger must not reach beside its own folder.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
}

// tensor name -> shard name, as the index says.
using WeightMap = std::map<std::string, std::string>;

Result<WeightMap> read_weight_map(const std::string& index_path) {
  NF_TRY(const SortedJson index, read_sorted_json_file(index_path, {.reject_duplicate_keys = true}));
  const auto found = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || found == index.end() || !found->is_object()) {
    return error(ErrorCode::kInvalidData, index_path + ": holds no \"weight_map\" object");
  }
  WeightMap weight_map;
  for (const auto& [name, shard] : found->items()) {
    if (!shard.is_string() || !is_plain_file_name(shard.get_ref<const std::string&>())) {
      return error(ErrorCode::kInvalidData, index_path + ": tensor \"" + name + "\" is said to be in " +
                                                dump_json(Json(shard)) +
                                                ", which is not a file of this folder");
    }
    weight_map[name] = shard.get<std::string>();
  }
  return weight_map;
}

}  // namespace

Result<SafetensorsFolder> SafetensorsFolder::open(const std::string& folder) {
  SafetensorsFolder result;
  result.path_ = folder;
  std::error_code ignored;
  const auto single = std::filesystem::path(folder) / kSingleFile;
  const auto index = std::filesystem::path(folder) / kIndexFile;
  if (std::filesystem::exists(single, ignored)) {
    NF_TRY(SafetensorsFile file, SafetensorsFile::open(single.string()));
    result.add_file(std::move(file));
  } else if (std::filesystem::exists(index, ignored)) {
    NF_RETURN_IF_ERROR(result.open_shards(index.string()));
  } else {
    return error(ErrorCode::kNotFound, folder + ": holds neither " + kSingleFile + " nor " + kIndexFile,
                 "give the folder of a Hugging Face checkpoint in safetensors format");
  }
  return result;
}

Status SafetensorsFolder::open_shards(const std::string& index_path) {
  NF_TRY(const WeightMap weight_map, read_weight_map(index_path));
  std::set<std::string> shards;
  for (const auto& [name, shard] : weight_map) shards.insert(shard);
  for (const std::string& shard : shards) {
    NF_TRY(SafetensorsFile file, SafetensorsFile::open((std::filesystem::path(path_) / shard).string()));
    for (const auto& [name, tensor] : file.tensors()) {
      const auto listed = weight_map.find(name);
      if (listed != weight_map.end() && listed->second == shard) continue;
      return error(ErrorCode::kInvalidData, file.path() + ": holds tensor \"" + name + "\", which " +
                                                kIndexFile + " does not list in this file");
    }
    add_file(std::move(file));
  }
  for (const auto& [name, shard] : weight_map) {
    if (!tensors_.contains(name)) {
      return error(ErrorCode::kInvalidData, (std::filesystem::path(path_) / shard).string() +
                                                ": lacks tensor \"" + name + "\", which " + kIndexFile +
                                                " lists in it");
    }
  }
  return {};
}

void SafetensorsFolder::add_file(SafetensorsFile file) {
  files_.push_back(std::make_unique<SafetensorsFile>(std::move(file)));
  for (const auto& [name, tensor] : files_.back()->tensors()) {
    // Shards agree with the index, where a name has one shard: no name comes twice.
    NF_CHECK(tensors_.emplace(name, Entry{tensor, files_.back().get()}).second) << name;
  }
}

int64_t SafetensorsFolder::num_bytes() const {
  int64_t bytes = 0;
  for (const auto& file : files_) bytes += file->num_bytes();
  return bytes;
}

}  // namespace nemoforge::io
