#include <memory>
#include <string>

#include "base/log_line.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/device_choice.h"

namespace nemoforge::ops {
CudaBackend::CudaBackend() {
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  CUDA_CHECK(cublasLtCreate(&cublas_));
  CUDA_CHECK(cudaMalloc(&cublas_workspace_, kCublasWorkspaceBytes));
}

CudaBackend::~CudaBackend() {
  // Failures here mean a context that is already lost; there is nobody left to tell but the log.
  if (cudaStreamSynchronize(stream_) != cudaSuccess) log_error_line("the CUDA context was lost");
  cudaFree(cublas_workspace_);
  cublasLtDestroy(cublas_);
  cudaStreamDestroy(stream_);
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

void CudaBackend::fill_zero(void* device, int64_t num_bytes) {
  CUDA_CHECK(cudaMemsetAsync(device, 0, static_cast<size_t>(num_bytes), stream_));
}

void* CudaBackend::scratch(int purpose, int64_t num_bytes) {
  Buffer& buffer = scratch_[purpose];
  if (buffer.num_bytes() < num_bytes) {
    // Work that uses the old memory is still in the stream.
    synchronize();
    auto grown = allocate(num_bytes);
    if (!grown) throw CudaError(grown.error().to_string());
    buffer = std::move(*grown);
  }
  return buffer.data();
}

void CudaBackend::synchronize() {
  CUDA_CHECK(cudaStreamSynchronize(stream_));
}

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
  return std::make_unique<CudaBackend>();
}

}  // namespace nemoforge::ops
