// Errors of the CUDA runtime and its libraries: exceptions, caught by the engine's step and by main.
#pragma once

#include <stdexcept>
#include <string>

#include <cublasLt.h>
#include <cuda_runtime.h>

namespace nemoforge::ops {

class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline void cuda_check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  throw CudaError(std::string(file) + ':' + std::to_string(line) + ": " + call + ": " +
                  cudaGetErrorString(status));
}

inline void cuda_check(cublasStatus_t status, const char* call, const char* file, int line) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(std::string(file) + ':' + std::to_string(line) + ": " + call + ": " +
                  cublasLtGetStatusString(status));
}

}  // namespace nemoforge::ops

// Throws CudaError with the call, file and line unless it succeeded. CUDA_CHECK(cudaGetLastError()) follows
// each launch.
#define CUDA_CHECK(call) ::nemoforge::ops::cuda_check((call), #call, __FILE__, __LINE__)
