#include <algorithm>
#include <memory>
#include <string>

#include "base/log_line.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/device_choice.h"

namespace nemoforge::ops {
namespace {

OpStream make_stream() {
  cudaStream_t stream = nullptr;
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  int device = 0;
  int major = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  return OpStream(stream, major >= 9);
}

}  // namespace

CudaBackend::CudaBackend() : stream_(make_stream()), other_stream_(make_stream()) {
  CUDA_CHECK(cublasLtCreate(&cublas_));
  CUDA_CHECK(cudaMalloc(&cublas_workspace_, kCublasWorkspaceBytes));
  CUDA_CHECK(cudaMalloc(&other_cublas_workspace_, kCublasWorkspaceBytes));
  CUDA_CHECK(cudaEventCreateWithFlags(&lanes_part_, cudaEventDisableTiming));
  CUDA_CHECK(cudaEventCreateWithFlags(&lanes_meet_, cudaEventDisableTiming));
}

CudaBackend::~CudaBackend() {
  // Failures here mean a context that is already lost; there is nobody left to tell but the log.
  if (cudaStreamSynchronize(stream_) != cudaSuccess) log_error_line("the CUDA context was lost");
  forget_recordings();
  cudaFree(cublas_workspace_);
  cudaFree(other_cublas_workspace_);
  cublasLtDestroy(cublas_);
  cudaEventDestroy(lanes_part_);
  cudaEventDestroy(lanes_meet_);
  cudaStreamDestroy(stream_);
  cudaStreamDestroy(other_stream_);
}

Result<Buffer> CudaBackend::allocate(int64_t num_bytes) {
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, static_cast<size_t>(std::max<int64_t>(num_bytes, 1)));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // the failure is reported here, not by the next launch's check
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
    return error(ErrorCode::kResourceExhausted, "cannot allocate " + std::to_string(num_bytes) +
                                                    " bytes of GPU memory: " + std::to_string(free_bytes) +
                                                    " of " + std::to_string(total_bytes) + " are free");
  }
  CUDA_CHECK(status);
  return Buffer(data, num_bytes, [](void* memory) { cudaFree(memory); });
}

void CudaBackend::upload(const void* host, void* device, int64_t num_bytes) {
  CUDA_CHECK(cudaMemcpyAsync(device, host, static_cast<size_t>(num_bytes), cudaMemcpyHostToDevice, stream_));
  CUDA_CHECK(cudaStreamSynchronize(stream_));
}

void CudaBackend::download(const void* device, void* host, int64_t num_bytes) {
  CUDA_CHECK(cudaMemcpyAsync(host, device, static_cast<size_t>(num_bytes), cudaMemcpyDeviceToHost, stream_));
  CUDA_CHECK(cudaStreamSynchronize(stream_));
}

std::optional<DeviceMemory> CudaBackend::device_memory() const {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
  return DeviceMemory{static_cast<int64_t>(free_bytes), static_cast<int64_t>(total_bytes)};
}

void CudaBackend::copy(const void* from, void* to, int64_t num_bytes) {
  CUDA_CHECK(cudaMemcpyAsync(to, from, static_cast<size_t>(num_bytes), cudaMemcpyDeviceToDevice, stream_));
}

// The first call with a key runs plainly, which makes the plans and scratch memory that a recording must find
// ready; the second records; later ones repeat.
void CudaBackend::replay(const ReplayKey& key, const std::function<void()>& ops) {
  const auto [place, is_new] = recordings_.try_emplace(key);
  place->second.last_use = ++num_replays_;
  if (is_new) {
    if (recordings_.size() > kMaxRecordings) {
      const auto oldest = std::min_element(
          recordings_.begin(), recordings_.end(),
          [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; });
      if (oldest->second.graph != nullptr) CUDA_CHECK(cudaGraphExecDestroy(oldest->second.graph));
      recordings_.erase(oldest);
    }
    return ops();
  }
  if (place->second.graph == nullptr) record(key, ops);
  CUDA_CHECK(cudaGraphLaunch(recordings_.at(key).graph, stream_));
}

void CudaBackend::record(const ReplayKey& key, const std::function<void()>& ops) {
  cudaGraph_t graph = nullptr;
  CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  try {
    ops();
  } catch (...) {
    cudaStreamEndCapture(stream_, &graph);  // the first error is the one to tell
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  CUDA_CHECK(cudaStreamEndCapture(stream_, &graph));
  const cudaError_t status = cudaGraphInstantiate(&recordings_[key].graph, graph, 0);
  cudaGraphDestroy(graph);
  CUDA_CHECK(status);
}

void CudaBackend::swap_lanes() {
  std::swap(stream_, other_stream_);
  std::swap(cublas_workspace_, other_cublas_workspace_);
  std::swap(scratch_, other_scratch_);
}

void CudaBackend::concurrently(const std::function<void()>& first, const std::function<void()>& second) {
  CUDA_CHECK(cudaEventRecord(lanes_part_, stream_));
  CUDA_CHECK(cudaStreamWaitEvent(other_stream_, lanes_part_));
  other_stream_.start_next_alone();
  first();
  swap_lanes();
  try {
    second();
  } catch (...) {
    swap_lanes();
    throw;
  }
  swap_lanes();
  CUDA_CHECK(cudaEventRecord(lanes_meet_, other_stream_));
  CUDA_CHECK(cudaStreamWaitEvent(stream_, lanes_meet_));
  stream_.start_next_alone();
}

void CudaBackend::forget_recordings() {
  for (const auto& [key, recording] : recordings_) {
    if (recording.graph != nullptr) cudaGraphExecDestroy(recording.graph);
  }
  recordings_.clear();
}

void CudaBackend::fill_zero(void* device, int64_t num_bytes) {
  CUDA_CHECK(cudaMemsetAsync(device, 0, static_cast<size_t>(num_bytes), stream_));
}

void* CudaBackend::scratch(ScratchPurpose purpose, int64_t num_bytes) {
  Buffer& buffer = scratch_[purpose];
  if (buffer.num_bytes() < num_bytes) {
    // Work that uses the old memory is still in a stream.
    CUDA_CHECK(cudaDeviceSynchronize());
    forget_recordings();
    auto grown = allocate(num_bytes);
    if (!grown) throw CudaError(grown.error().to_string());
    buffer = std::move(*grown);
  }
  return buffer.data();
}

void CudaBackend::synchronize() {
  CUDA_CHECK(cudaStreamSynchronize(stream_));
}

namespace {

// Any kernel of this build: whether the device can load it says whether it can load the others.
__global__ void probe() {}

}  // namespace

Result<std::unique_ptr<Backend>> make_cuda_backend() {
  int num_devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&num_devices);
  if (status != cudaSuccess || num_devices == 0) {
    cudaGetLastError();
    return error(
        ErrorCode::kUnavailable,
        std::string("no CUDA device: ") + (status == cudaSuccess ? "none found" : cudaGetErrorString(status)),
        "nemoforge doctor says what this machine has; --device cpu runs without a GPU");
  }
  cudaFuncAttributes attributes{};
  if (cudaFuncGetAttributes(&attributes, probe) != cudaSuccess) {
    cudaGetLastError();
    int device = 0;
    cudaDeviceProp properties{};
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
    const std::string capability = std::to_string(properties.major) + std::to_string(properties.minor);
    return error(ErrorCode::kUnavailable,
                 std::string("this build has no kernels for the GPU ") + properties.name +
                     " (compute capability " + capability + ")",
                 "configure the build with -DCMAKE_CUDA_ARCHITECTURES=" + capability);
  }
  return std::make_unique<CudaBackend>();
}

}  // namespace nemoforge::ops
