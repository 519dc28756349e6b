// The tensors of a checkpoint folder: one model.safetensors, or shards named by model.safetensors.index.json.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/safetensors.h"
#include "tensor/tensor_view.h"

namespace nemoforge::io {

// All tensors of a folder under one roof; move-only. Views live as long as this object.
class SafetensorsFolder {
 public:
  struct Entry {
    ConstTensorView tensor;
    const SafetensorsFile* file = nullptr;
  };

  // Opens `folder`/model.safetensors where there is one (as transformers does), else the shards of the index.
  // An index may name files of its own folder only, and must agree with the shards in both directions: a
  // tensor that a shard lacks, or holds without being listed, is an error naming file and tensor.
  [[nodiscard]] static Result<SafetensorsFolder> open(const std::string& folder);

  [[nodiscard]] const std::string& path() const { return path_; }
  // In the order of their names.
  [[nodiscard]] const std::map<std::string, Entry, std::less<>>& tensors() const { return tensors_; }
  // Bytes of all files.
  [[nodiscard]] int64_t num_bytes() const;

 private:
  Status open_shards(const std::string& index_path);
  void add_file(SafetensorsFile file);

  std::string path_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Entry, std::less<>> tensors_;
};

}  // namespace nemoforge::io
