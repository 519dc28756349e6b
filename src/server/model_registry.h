// The names that `model` may have: the served model's, and those of its adapters.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/json.h"

namespace nemoforge::model {
class LoraAdapter;
}

namespace nemoforge::server {

using AdapterPtr = std::shared_ptr<const model::LoraAdapter>;

struct LoadedAdapter {
  AdapterPtr adapter;
  std::string hash;  // of its files
};
// Loads the adapter of a folder.
using AdapterLoader = std::function<Result<LoadedAdapter>(const std::string& path)>;

// What /v1/models says of the served model. Clients that keep answers keep the hashes with them.
struct ServedCheckpoint {
  std::string name;
  std::string root;  // the folder it was loaded from
  std::string checkpoint_hash;
  std::string chat_template_hash;  // empty where it has no chat template
  int64_t max_model_len = 0;
};

// Its functions may be called from any thread.
class ModelRegistry {
 public:
  ModelRegistry(ServedCheckpoint served, AdapterLoader loader);

  // kInvalidArgument where the name is taken, or there are kMaxAdapters; else the loader's error.
  [[nodiscard]] Status load(const std::string& name, const std::string& path);
  // Requests that use the adapter keep it until they end. kNotFound.
  [[nodiscard]] Status unload(const std::string& name);

  // Null for the served model itself, which an empty name means too. kNotFound.
  [[nodiscard]] Result<AdapterPtr> find(const std::string& name) const;
  [[nodiscard]] const std::string& name() const { return served_.name; }

  // The list of /v1/models, and one of its entries (kNotFound).
  [[nodiscard]] io::Json list() const;
  [[nodiscard]] Result<io::Json> describe(const std::string& name) const;

  static constexpr size_t kMaxAdapters = 64;

 private:
  struct Adapter {
    std::string path;
    int64_t created_s;
    LoadedAdapter loaded;
  };
  [[nodiscard]] io::Json base_json() const;
  [[nodiscard]] io::Json adapter_json(const std::string& name, const Adapter& adapter) const;

  const ServedCheckpoint served_;
  const int64_t created_s_;
  const AdapterLoader loader_;
  mutable std::mutex mutex_;
  std::map<std::string, Adapter> adapters_;
};

}  // namespace nemoforge::server
