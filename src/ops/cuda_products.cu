#include <algorithm>

#include "base/check.h"
#include "ops/cuda_check.h"
#include "ops/cuda_products.h"

namespace nemoforge::ops {
namespace {

// What cuBLAS recommends for Hopper (its documentation of cublasSetWorkspace).
constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr uint32_t kMaxAlignment = 256;

cudaDataType_t cuda_dtype(DType dtype) {
  return dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
}

// The largest power of two that divides the address, up to what cuBLASLt asks about.
uint32_t alignment_of(const void* data) {
  uint32_t alignment = 1;
  while (alignment < kMaxAlignment && reinterpret_cast<uintptr_t>(data) % (2 * alignment) == 0)
    alignment *= 2;
  return alignment;
}

}  // namespace

// cuBLAS is column-major: c^T [n, m] = b^T [n, k] a^T [k, m], where row-major b is a column-major [n, k], and
// row-major a a column-major [k, m] (or [m, k], to be transposed).
struct CudaProducts::Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t first = nullptr;   // b
  cublasLtMatrixLayout_t second = nullptr;  // a
  cublasLtMatrixLayout_t out = nullptr;
  cublasLtMatmulAlgo_t algorithm{};

  Plan(cublasLtHandle_t handle, const CudaProduct& product) {
    const cublasOperation_t transpose = product.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    CUDA_CHECK(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    CUDA_CHECK(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSB, &transpose,
                                              sizeof(transpose)));
    first = layout(product.b);
    second = layout(product.a);
    out = layout(product.c);
    cublasLtMatmulPreference_t preference = nullptr;
    CUDA_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      CUDA_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(product.b.raw()));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(product.a.raw()));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(product.c.raw()));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(product.c.raw()));
    cublasLtMatmulHeuristicResult_t result{};
    int num_results = 0;
    CUDA_CHECK(cublasLtMatmulAlgoGetHeuristic(handle, operation, first, second, out, out, preference, 1,
                                              &result, &num_results));
    CUDA_CHECK(cublasLtMatmulPreferenceDestroy(preference));
    NF_CHECK(num_results > 0) << product.a.shape().to_string() << ' ' << product.b.shape().to_string();
    algorithm = result.algo;
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    cublasLtMatrixLayoutDestroy(out);
    cublasLtMatrixLayoutDestroy(second);
    cublasLtMatrixLayoutDestroy(first);
    cublasLtMatmulDescDestroy(operation);
  }

  static cublasLtMatrixLayout_t layout(const ConstTensorView& view) {
    cublasLtMatrixLayout_t result = nullptr;
    // A matrix of one row may say any stride.
    const int64_t stride = std::max(view.row_stride(), view.size(1));
    CUDA_CHECK(cublasLtMatrixLayoutCreate(&result, cuda_dtype(view.dtype()),
                                          static_cast<uint64_t>(view.size(1)),
                                          static_cast<uint64_t>(view.size(0)), stride));
    return result;
  }
};

CudaProducts::CudaProducts() {
  CUDA_CHECK(cublasLtCreate(&handle_));
  CUDA_CHECK(cudaMalloc(&workspace_, kWorkspaceBytes));
}

CudaProducts::~CudaProducts() {
  plans_.clear();
  cudaFree(workspace_);
  cublasLtDestroy(handle_);
}

void CudaProducts::run(const CudaProduct& product, cudaStream_t stream) {
  const auto& [a, a_transposed, b, c, adds] = product;
  const int64_t k = a.size(a_transposed ? 0 : 1);
  NF_CHECK(b.size(0) == k && c.size(0) == a.size(a_transposed ? 1 : 0) && c.size(1) == b.size(1) &&
           a.dtype() == b.dtype())
      << a.shape().to_string() << ' ' << b.shape().to_string() << ' ' << c.shape().to_string();
  if (c.numel() == 0 || (k == 0 && adds)) return;
  const Key key{c.size(0),
                c.size(1),
                k,
                a.row_stride(),
                b.row_stride(),
                c.row_stride(),
                a.dtype(),
                c.dtype(),
                a_transposed,
                alignment_of(a.raw()),
                alignment_of(b.raw()),
                alignment_of(c.raw())};
  auto& plan = plans_[key];
  if (plan == nullptr) plan = std::make_unique<Plan>(handle_, product);
  const float one = 1;
  const float beta = adds ? 1.0f : 0.0f;
  CUDA_CHECK(cublasLtMatmul(handle_, plan->operation, &one, b.raw(), plan->first, a.raw(), plan->second,
                            &beta, c.raw(), plan->out, c.raw(), plan->out, &plan->algorithm, workspace_,
                            kWorkspaceBytes, stream));
}

}  // namespace nemoforge::ops
