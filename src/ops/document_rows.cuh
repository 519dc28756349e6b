// Which document (sequence) of a packed batch a row belongs to, in device code.
#pragma once

#include <cstdint>

namespace nemoforge::ops {

struct DocumentRows {
  const int32_t* cu_seqlens;  // [num_documents + 1]
  int num_documents;
  int num_rows;
};

// Rows begin .. end - 1 of the batch.
struct RowRange {
  int begin;
  int end;
};

// The rows of the document that has `row`. Empty documents have none and are passed over.
__device__ inline RowRange document_of(const DocumentRows& documents, int row) {
  int low = 0;
  int high = documents.num_documents;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (documents.cu_seqlens[middle] <= row) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return {documents.cu_seqlens[low], documents.cu_seqlens[low + 1]};
}

}  // namespace nemoforge::ops
