#include "trace/checkpoint_hash.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/sha256.h"
#include "io/file.h"
#include "io/json.h"

namespace nemoforge::trace {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxWholeBytes = size_t{64} << 20;
constexpr size_t kHeadBytes = size_t{1} << 20;
constexpr size_t kSampleBytes = 4096;
constexpr size_t kNumSamples = 64;

bool is_part(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".json" || extension == ".jinja" || extension == ".safetensors";
}

void add_contents(Sha256& hash, std::string_view bytes) {
  if (bytes.size() <= kMaxWholeBytes) {
    hash.update(bytes);
    return;
  }
  hash.update(bytes.substr(0, kHeadBytes));
  const size_t stride = (bytes.size() - kHeadBytes) / kNumSamples;
  for (size_t i = 0; i < kNumSamples; ++i) hash.update(bytes.substr(kHeadBytes + i * stride, kSampleBytes));
  hash.update(bytes.substr(bytes.size() - kSampleBytes));
}

}  // namespace

Result<std::string> checkpoint_hash(const std::string& dir) {
  std::vector<fs::path> files;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(dir, failure)) {
    if (entry.is_regular_file() && is_part(entry.path())) files.push_back(entry.path());
  }
  if (failure) return error(ErrorCode::kNotFound, dir + ": " + failure.message());
  if (files.empty()) return error(ErrorCode::kNotFound, dir + ": holds no checkpoint");
  std::sort(files.begin(), files.end());
  Sha256 hash;
  for (const fs::path& path : files) {
    hash.update(path.filename().string() + "\n" + std::to_string(fs::file_size(path)) + "\n");
    if (fs::file_size(path) == 0) continue;  // nothing to map
    NF_TRY(const io::MappedFile file, io::MappedFile::open(path.string()));
    add_contents(hash, {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()});
  }
  return hash.hex_digest();
}

Result<std::string> chat_template_hash(const std::string& model_dir) {
  const auto jinja = io::read_file((fs::path(model_dir) / "chat_template.jinja").string());
  if (jinja) return sha256_hex(*jinja);
  if (jinja.error().code != ErrorCode::kNotFound) return forward_error(jinja);
  const std::string path = (fs::path(model_dir) / "tokenizer_config.json").string();
  NF_TRY(const io::Json config, io::read_json_file(path, {.allow_non_finite = true}));
  const auto entry = config.is_object() ? config.find("chat_template") : config.end();
  if (entry == config.end() || entry->is_null()) {
    return error(ErrorCode::kNotFound, path + ": has no chat_template, and there is no chat_template.jinja");
  }
  return sha256_hex(entry->is_string() ? entry->get<std::string>() : io::dump_json(*entry));
}

}  // namespace nemoforge::trace
