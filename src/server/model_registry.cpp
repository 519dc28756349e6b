#include "server/model_registry.h"

#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "server/unix_time.h"

namespace nemoforge::server {
namespace {

tl::unexpected<Error> not_found(const std::string& name) {
  return error(ErrorCode::kNotFound, fmt::format("model: the model `{}` does not exist.", name));
}

}  // namespace

ModelRegistry::ModelRegistry(ServedCheckpoint served, AdapterLoader loader)
    : served_(std::move(served)), created_s_(unix_time_s()), loader_(std::move(loader)) {}

Status ModelRegistry::load(const std::string& name, const std::string& path) {
  const auto check = [&]() -> Status {
    if (name.empty()) return error(ErrorCode::kInvalidArgument, "lora_name must not be empty.");
    if (name == served_.name || adapters_.contains(name))
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("lora_name '{}' is already a model's name.", name));
    if (adapters_.size() >= kMaxAdapters) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("lora_name: there are {} adapters already.", kMaxAdapters), "unload one");
    }
    return {};
  };
  {
    const std::lock_guard lock(mutex_);
    NF_RETURN_IF_ERROR(check());
  }
  NF_TRY(LoadedAdapter loaded, loader_(path));
  const std::lock_guard lock(mutex_);
  NF_RETURN_IF_ERROR(check());  // again: another request may have taken the name
  adapters_.emplace(name, Adapter{path, unix_time_s(), std::move(loaded)});
  return {};
}

Status ModelRegistry::unload(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (adapters_.erase(name) == 0)
    return error(ErrorCode::kNotFound, fmt::format("lora_name: the adapter `{}` does not exist.", name));
  return {};
}

Result<AdapterPtr> ModelRegistry::find(const std::string& name) const {
  if (name.empty() || name == served_.name) return AdapterPtr();
  const std::lock_guard lock(mutex_);
  const auto found = adapters_.find(name);
  if (found == adapters_.end()) return not_found(name);
  return found->second.loaded.adapter;
}

io::Json ModelRegistry::base_json() const {
  return {{"id", served_.name},
          {"object", "model"},
          {"created", created_s_},
          {"owned_by", "nemoforge"},
          {"root", served_.root},
          {"parent", nullptr},
          {"max_model_len", served_.max_model_len},
          {"checkpoint_hash", served_.checkpoint_hash},
          {"chat_template_hash", served_.chat_template_hash},
          {"permission", io::Json::array()}};
}

io::Json ModelRegistry::adapter_json(const std::string& name, const Adapter& adapter) const {
  io::Json json = base_json();
  json["id"] = name;
  json["created"] = adapter.created_s;
  json["root"] = adapter.path;
  json["parent"] = served_.name;
  json["adapter_hash"] = adapter.loaded.hash;
  return json;
}

io::Json ModelRegistry::list() const {
  io::Json data = io::Json::array({base_json()});
  const std::lock_guard lock(mutex_);
  for (const auto& [name, adapter] : adapters_) data.push_back(adapter_json(name, adapter));
  return {{"object", "list"}, {"data", std::move(data)}};
}

Result<io::Json> ModelRegistry::describe(const std::string& name) const {
  if (name == served_.name) return base_json();
  const std::lock_guard lock(mutex_);
  const auto found = adapters_.find(name);
  if (found == adapters_.end()) return not_found(name);
  return adapter_json(name, found->second);
}

}  // namespace nemoforge::server
