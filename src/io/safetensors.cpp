#include "io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/integers.h"
#include "base/log.h"
#include "io/json.h"

namespace nemoforge::io {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the limit of the safetensors package itself
constexpr size_t kLengthBytes = 8;

// A tensor of the header with its place in the data.
struct Entry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t begin = 0;
  int64_t end = 0;
};

tl::unexpected<Error> file_error(const std::string& path, const std::string& message) {
  return error(ErrorCode::kInvalidData, path + ": " + message);
}

tl::unexpected<Error> tensor_error(const std::string& path, const std::string& name,
                                   const std::string& message) {
  return file_error(path, "tensor \"" + name + "\" " + message);
}

// A non-negative integer below 2^63, or nothing.
std::optional<int64_t> as_size(const SortedJson& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return std::nullopt;
  }
  const auto size = value.get<int64_t>();
  if (size < 0) return std::nullopt;
  return size;
}

Result<Shape> parse_shape(const std::string& path, const std::string& name, const SortedJson& value) {
  if (!value.is_array() || value.size() > Shape::kMaxRank) {
    return tensor_error(path, name,
                        "needs a \"shape\" of at most " + std::to_string(Shape::kMaxRank) + " dimensions");
  }
  std::vector<int64_t> sizes;
  for (const SortedJson& item : value) {
    const auto size = as_size(item);
    if (!size) return tensor_error(path, name, "has a dimension that is not a non-negative integer");
    sizes.push_back(*size);
  }
  return Shape(sizes);
}

// Bytes of a tensor of this shape, or nothing where they do not fit in int64_t. An empty tensor must not hide
// sizes whose product overflows either: strides are computed from them.
std::optional<int64_t> checked_bytes(const Shape& shape, DType dtype) {
  std::optional<int64_t> bytes = dtype_bytes(dtype);
  for (const int64_t size : shape.sizes()) {
    if (bytes) bytes = checked_multiply(*bytes, std::max<int64_t>(size, 1));
  }
  if (!bytes) return std::nullopt;
  return shape.numel() * dtype_bytes(dtype);
}

Result<Entry> parse_entry(const std::string& path, const std::string& name, const SortedJson& value,
                          int64_t data_bytes) {
  const auto member = [&](const char* key) -> const SortedJson* {
    const auto found = value.is_object() ? value.find(key) : value.end();
    return value.is_object() && found != value.end() ? &*found : nullptr;
  };
  const SortedJson* dtype_value = member("dtype");
  const SortedJson* shape_value = member("shape");
  const SortedJson* offsets = member("data_offsets");
  if (dtype_value == nullptr || shape_value == nullptr || offsets == nullptr || !dtype_value->is_string()) {
    return tensor_error(path, name, "needs \"dtype\", \"shape\" and \"data_offsets\"");
  }
  Entry entry;
  entry.name = name;
  const auto& dtype_text = dtype_value->get_ref<const std::string&>();
  const auto dtype = dtype_from_name(dtype_text);
  if (!dtype) return tensor_error(path, name, "has the unknown dtype \"" + dtype_text + "\"");
  entry.dtype = *dtype;
  NF_TRY(entry.shape, parse_shape(path, name, *shape_value));
  const auto begin = offsets->is_array() && offsets->size() == 2 ? as_size((*offsets)[0]) : std::nullopt;
  const auto end = begin ? as_size((*offsets)[1]) : std::nullopt;
  if (!begin || !end || *end < *begin) {
    return tensor_error(path, name, "needs \"data_offsets\" of two ascending non-negative integers");
  }
  entry.begin = *begin;
  entry.end = *end;
  const auto bytes = checked_bytes(entry.shape, entry.dtype);
  if (!bytes || *bytes != entry.end - entry.begin) {
    return tensor_error(path, name,
                        "of dtype " + dtype_text + " and shape " + entry.shape.to_string() + " takes " +
                            (bytes ? std::to_string(*bytes) : "more than 2^63") +
                            " bytes, but its data_offsets span " + std::to_string(entry.end - entry.begin));
  }
  if (entry.end > data_bytes) {
    return tensor_error(path, name,
                        "ends at byte " + std::to_string(entry.end) + " of the data, but the file holds " +
                            std::to_string(data_bytes) + " (is it truncated?)");
  }
  return entry;
}

// The tensors must cover the data from its first byte to its last, each byte once.
Status check_coverage(const std::string& path, std::vector<Entry>& entries, int64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  int64_t covered = 0;
  const Entry* previous = nullptr;
  for (const Entry& entry : entries) {
    if (entry.begin != covered) {
      const std::string where = previous == nullptr ? "the data begins" : "\"" + previous->name + "\" ends";
      return tensor_error(path, entry.name,
                          "begins at byte " + std::to_string(entry.begin) + ", but " + where + " at byte " +
                              std::to_string(covered) +
                              (entry.begin < covered ? " (they overlap)" : " (there is a hole)"));
    }
    covered = entry.end;
    previous = &entry;
  }
  if (covered != data_bytes) {
    return file_error(path, "holds " + std::to_string(data_bytes) + " bytes of data, but its tensors cover " +
                                std::to_string(covered));
  }
  return {};
}

Result<SafetensorsFile::Metadata> parse_metadata(const std::string& path, const SortedJson& value) {
  SafetensorsFile::Metadata metadata;
  if (!value.is_object()) return file_error(path, "__metadata__ is not an object");
  for (const auto& [key, item] : value.items()) {
    if (!item.is_string()) return file_error(path, "__metadata__ \"" + key + "\" is not a string");
    metadata[key] = item.get<std::string>();
  }
  return metadata;
}

// The header's text, with the data behind it.
struct Split {
  std::string_view header;
  std::span<const std::byte> data;
};

Result<Split> split_header(const std::string& path, std::span<const std::byte> bytes) {
  if (bytes.size() < kLengthBytes) {
    return file_error(path,
                      "is " + std::to_string(bytes.size()) + " bytes long, too short for a safetensors file");
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  if (header_bytes > static_cast<uint64_t>(kMaxHeaderBytes)) {
    return file_error(path, "claims a header of " + std::to_string(header_bytes) +
                                " bytes, more than the limit of " + std::to_string(kMaxHeaderBytes));
  }
  if (header_bytes > bytes.size() - kLengthBytes) {
    return file_error(path, "claims a header of " + std::to_string(header_bytes) + " bytes, but only " +
                                std::to_string(bytes.size() - kLengthBytes) + " follow (is it truncated?)");
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + kLengthBytes;
  return Split{{text, header_bytes}, bytes.subspan(kLengthBytes + header_bytes)};
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  SafetensorsFile result;
  NF_TRY(result.file_, MappedFile::open(path));
  NF_TRY(const Split split, split_header(path, result.file_.bytes()));
  auto header = parse_sorted_json(split.header, {.max_depth = 4, .reject_duplicate_keys = true});
  if (!header) return file_error(path, "header: " + header.error().message);
  if (!header->is_object()) return file_error(path, "its header is not a JSON object");

  const auto data_bytes = static_cast<int64_t>(split.data.size());
  std::vector<Entry> entries;
  for (const auto& [name, value] : header->items()) {
    if (name == "__metadata__") {
      NF_TRY(result.metadata_, parse_metadata(path, value));
      continue;
    }
    NF_TRY(Entry entry, parse_entry(path, name, value, data_bytes));
    entries.push_back(std::move(entry));
  }
  NF_RETURN_IF_ERROR(check_coverage(path, entries, data_bytes));

  int64_t copied_bytes = 0;
  for (const Entry& entry : entries) {
    const std::byte* data = split.data.data() + entry.begin;
    const auto alignment = static_cast<uintptr_t>(dtype_bytes(entry.dtype));
    if (reinterpret_cast<uintptr_t>(data) % alignment != 0) {
      const int64_t bytes = entry.end - entry.begin;
      Buffer copy = allocate_host(bytes);
      if (bytes > 0) std::memcpy(copy.data(), data, static_cast<size_t>(bytes));
      data = static_cast<const std::byte*>(copy.data());
      result.aligned_copies_.push_back(std::move(copy));
      copied_bytes += bytes;
    }
    result.tensors_.emplace(entry.name, ConstTensorView(data, entry.dtype, entry.shape));
  }
  if (copied_bytes > 0) {
    spdlog::warn("{}: {} bytes of tensors at unaligned offsets were copied", path, copied_bytes);
  }
  return result;
}

Result<ConstTensorView> SafetensorsFile::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return error(ErrorCode::kNotFound, path() + ": holds no tensor \"" + std::string(name) + "\"");
  }
  return found->second;
}

void SafetensorsFile::forget(const ConstTensorView& tensor) const {
  const auto* begin = static_cast<const std::byte*>(tensor.raw());
  const auto bytes = file_.bytes();
  if (begin < bytes.data() || begin >= bytes.data() + bytes.size()) return;  // an aligned copy
  file_.forget({begin, static_cast<size_t>(tensor.numel() * dtype_bytes(tensor.dtype()))});
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string& path,
                                                    const std::vector<TensorSpec>& specs,
                                                    const SafetensorsFile::Metadata& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string> names;
  int64_t offset = 0;
  for (const TensorSpec& spec : specs) {
    NF_CHECK(spec.name != "__metadata__" && names.insert(spec.name).second) << spec.name;
    const int64_t end = offset + spec.shape.numel() * dtype_bytes(spec.dtype);
    const auto sizes = spec.shape.sizes();
    header[spec.name] = {{"dtype", dtype_name(spec.dtype)},
                         {"shape", std::vector<int64_t>(sizes.begin(), sizes.end())},
                         {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = dump_json(header);
  // The data begins at a multiple of 8 bytes, so that a mapping of the file is aligned for every dtype.
  text.resize(round_up(text.size(), size_t{8}), ' ');
  const auto header_bytes = static_cast<uint64_t>(text.size());
  NF_TRY(AtomicFile file, AtomicFile::create(path));
  NF_RETURN_IF_ERROR(file.write(std::as_bytes(std::span(&header_bytes, 1))));
  NF_RETURN_IF_ERROR(file.write(text));
  return SafetensorsWriter(std::move(file), offset);
}

Status SafetensorsWriter::write(std::span<const std::byte> bytes) {
  NF_CHECK(static_cast<int64_t>(bytes.size()) <= remaining_bytes_)
      << bytes.size() << " of " << remaining_bytes_;
  remaining_bytes_ -= static_cast<int64_t>(bytes.size());
  return file_.write(bytes);
}

Status SafetensorsWriter::commit() {
  NF_CHECK(remaining_bytes_ == 0) << remaining_bytes_;
  return file_.commit();
}

Status write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                         const SafetensorsFile::Metadata& metadata) {
  // Widest elements first, so that every tensor is aligned for its type.
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    return dtype_bytes(a->tensor.dtype()) > dtype_bytes(b->tensor.dtype());
  });
  std::vector<TensorSpec> specs;
  for (const NamedTensor* item : order) {
    NF_CHECK(item->tensor.is_contiguous()) << item->name;
    specs.push_back({item->name, item->tensor.dtype(), item->tensor.shape()});
  }
  NF_TRY(SafetensorsWriter writer, SafetensorsWriter::create(path, specs, metadata));
  for (const NamedTensor* item : order) {
    const auto bytes = static_cast<size_t>(item->tensor.numel() * dtype_bytes(item->tensor.dtype()));
    NF_RETURN_IF_ERROR(writer.write({static_cast<const std::byte*>(item->tensor.raw()), bytes}));
  }
  return writer.commit();
}

}  // namespace nemoforge::io
