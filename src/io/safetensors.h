// The safetensors format: a JSON header that names tensors, then their bytes. Files come from strangers:
// every name, shape and offset is validated before a view of it exists.
//
// Layout: 8 bytes little-endian header length; the header, a JSON object {name: {"dtype", "shape",
// "data_offsets": [begin, end]}, "__metadata__": {string: string}}; the data, which the tensors cover without
// holes or overlaps. Source: https://github.com/huggingface/safetensors, README "Format".
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/file.h"
#include "tensor/buffer.h"
#include "tensor/tensor_view.h"

namespace nemoforge::io {

// A safetensors file, mapped; move-only. Views point into the mapping (copy-on-demand by the kernel) and live
// as long as this object; a move keeps them valid.
class SafetensorsFile {
 public:
  using Metadata = std::map<std::string, std::string>;

  // kNotFound, kIo, or kInvalidData with one sentence naming the file and the tensor. A tensor at an address
  // that its element type does not allow (the format does not forbid it) is copied to aligned memory, and one
  // warning says how much.
  [[nodiscard]] static Result<SafetensorsFile> open(const std::string& path);

  [[nodiscard]] const std::string& path() const { return file_.path(); }
  [[nodiscard]] int64_t num_bytes() const { return static_cast<int64_t>(file_.bytes().size()); }
  // In the order of their names.
  [[nodiscard]] const std::map<std::string, ConstTensorView, std::less<>>& tensors() const {
    return tensors_;
  }
  [[nodiscard]] const Metadata& metadata() const { return metadata_; }
  // kNotFound, naming the file and the tensor.
  [[nodiscard]] Result<ConstTensorView> find(std::string_view name) const;
  // Lets the pages of a tensor leave resident memory (MappedFile::forget).
  void forget(const ConstTensorView& tensor) const;

 private:
  MappedFile file_;
  std::map<std::string, ConstTensorView, std::less<>> tensors_;
  std::vector<Buffer> aligned_copies_;
  Metadata metadata_;
};

// A name, type and shape before there is data.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

// Writes a file tensor by tensor without holding it in memory; the file appears whole or not at all.
class SafetensorsWriter {
 public:
  // The tensors are laid out in the order of `specs`, whose names must differ (NF_CHECK).
  [[nodiscard]] static Result<SafetensorsWriter> create(const std::string& path,
                                                        const std::vector<TensorSpec>& specs,
                                                        const SafetensorsFile::Metadata& metadata = {});
  // Appends bytes of the data; pieces of any size, in the order of the specs.
  [[nodiscard]] Status write(std::span<const std::byte> bytes);
  // Exactly the specs' bytes must have been written (NF_CHECK).
  [[nodiscard]] Status commit();

 private:
  SafetensorsWriter(AtomicFile file, int64_t remaining_bytes)
      : file_(std::move(file)), remaining_bytes_(remaining_bytes) {}
  AtomicFile file_;
  int64_t remaining_bytes_;
};

struct NamedTensor {
  std::string name;
  ConstTensorView tensor;  // contiguous, in host memory
};

// create + write + commit.
[[nodiscard]] Status write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                                       const SafetensorsFile::Metadata& metadata = {});

}  // namespace nemoforge::io
