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
// Loads the adapter of a folder.
using AdapterLoader = std::function<Result<AdapterPtr>(const std::string& path)>;

// Its functions may be called from any thread.
class ModelRegistry {
 public:
  // `name` is the served model's, `root` the folder it was loaded from.
  ModelRegistry(std::string name, std::string root, int64_t max_model_len, AdapterLoader loader);

  // kInvalidArgument where the name is taken, or there are kMaxAdapters; else the loader's error.
  [[nodiscard]] Status load(const std::string& name, const std::string& path);
  // Requests that use the adapter keep it until they end. kNotFound.
  [[nodiscard]] Status unload(const std::string& name);

  // Null for the served model itself, which an empty name means too. kNotFound.
  [[nodiscard]] Result<AdapterPtr> find(const std::string& name) const;
  [[nodiscard]] const std::string& name() const { return name_; }

  // The list of /v1/models, and one of its entries (kNotFound).
  [[nodiscard]] io::Json list() const;
  [[nodiscard]] Result<io::Json> describe(const std::string& name) const;

  static constexpr size_t kMaxAdapters = 64;

 private:
  struct Adapter {
    std::string path;
    int64_t created_s;
    AdapterPtr adapter;
  };
  [[nodiscard]] io::Json base_json() const;
  [[nodiscard]] io::Json adapter_json(const std::string& name, const Adapter& adapter) const;

  const std::string name_;
  const std::string root_;
  const int64_t max_model_len_;
  const int64_t created_s_;
  const AdapterLoader loader_;
  mutable std::mutex mutex_;
  std::map<std::string, Adapter> adapters_;
};

}  // namespace nemoforge::server
