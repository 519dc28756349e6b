#include "model/workspace.h"

#include <algorithm>
#include <new>

#include "base/integers.h"
#include "base/log.h"

namespace nemoforge::model {
namespace {

constexpr int64_t kAlignment = 256;  // what cudaMalloc gives; more than any host kernel asks for
constexpr int64_t kMinChunkBytes = int64_t{1} << 20;
constexpr int64_t kMaxSpareBytes = int64_t{512} << 20;

}  // namespace

TensorView Workspace::take(DType dtype, const Shape& shape) {
  const int64_t bytes = round_up(std::max<int64_t>(shape.numel() * dtype_bytes(dtype), 1), kAlignment);
  while (chunk_idx_ < chunks_.size() && used_bytes_ + bytes > chunks_[chunk_idx_].num_bytes()) {
    ++chunk_idx_;
    used_bytes_ = 0;
  }
  if (chunk_idx_ == chunks_.size()) add_chunk(bytes);
  auto* data = static_cast<std::byte*>(chunks_[chunk_idx_].data()) + used_bytes_;
  used_bytes_ += bytes;
  live_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, live_bytes_);
  return TensorView(data, dtype, shape);
}

void Workspace::reset() {
  if (chunks_.size() > 1) {
    // One chunk of the peak holds whatever they held.
    backend_->synchronize();
    chunks_.clear();
    add_chunk(peak_bytes_);
  }
  chunk_idx_ = 0;
  used_bytes_ = 0;
  live_bytes_ = 0;
}

int64_t Workspace::num_bytes() const {
  int64_t bytes = 0;
  for (const Buffer& chunk : chunks_) bytes += chunk.num_bytes();
  return bytes;
}

void Workspace::add_chunk(int64_t num_bytes) {
  // Doubling keeps the number of allocations small while the need is being found out; bounded, since a device
  // may have little more than the need.
  const int64_t doubled = std::min(this->num_bytes(), kMaxSpareBytes);
  auto chunk = backend_->allocate(std::max({num_bytes, doubled, kMinChunkBytes}));
  if (!chunk) {
    spdlog::error("activations: {}", chunk.error().to_string());
    throw std::bad_alloc();
  }
  chunks_.push_back(std::move(*chunk));
  used_bytes_ = 0;
}

}  // namespace nemoforge::model
