#include "ops/op_checks.h"

#include <cstddef>

namespace nemoforge::ops {
namespace {

// Whether two views share a byte. Views into one matrix (equal row strides in bytes) are compared as columns.
bool overlap(const ConstTensorView& a, const ConstTensorView& b) {
  if (!a || !b || a.numel() == 0 || b.numel() == 0) return false;
  const auto row_bytes = [](const ConstTensorView& view) {
    return view.numel() / view.size(0) * dtype_bytes(view.dtype());
  };
  const auto stride_bytes = [](const ConstTensorView& view) {
    return view.row_stride() * dtype_bytes(view.dtype());
  };
  const auto a_begin = reinterpret_cast<uintptr_t>(a.raw());
  const auto b_begin = reinterpret_cast<uintptr_t>(b.raw());
  const auto end = [&](const ConstTensorView& view, uintptr_t begin) {
    return begin + static_cast<uintptr_t>((view.size(0) - 1) * stride_bytes(view) + row_bytes(view));
  };
  if (end(a, a_begin) <= b_begin || end(b, b_begin) <= a_begin) return false;
  const int64_t stride = stride_bytes(a);
  if (stride != stride_bytes(b) || stride <= 0) return true;
  const auto distance = static_cast<int64_t>(b_begin) - static_cast<int64_t>(a_begin);
  const int64_t column = ((distance % stride) + stride) % stride;  // of b's rows within a's rows
  return column < row_bytes(a) || column + row_bytes(b) > stride;
}

bool is_index(const ConstTensorView& view) {
  return view.dtype() == DType::kI32 && view.is_contiguous();
}

}  // namespace

void check_activation(const ConstTensorView& view, int64_t num_rows, int64_t num_columns, const char* name) {
  NF_CHECK(is_activation(view)) << name << ": f32 or bf16 expected, got "
                                << (view ? dtype_name(view.dtype()) : "nothing");
  NF_CHECK((view.shape() == Shape{num_rows, num_columns}))
      << name << ": [" << num_rows << ", " << num_columns << "] expected, got " << view.shape().to_string();
  NF_CHECK(num_rows <= 1 || view.row_stride() >= num_columns) << name << ": rows overlap";
}

void check_disjoint(const ConstTensorView& a, const ConstTensorView& b, const char* names) {
  NF_CHECK(!overlap(a, b)) << names << " overlap";
}

void check_same_or_disjoint(const ConstTensorView& a, const ConstTensorView& b, const char* names) {
  const bool same = a.raw() == b.raw() && a.dtype() == b.dtype() && a.shape() == b.shape() &&
                    (a.row_stride() == b.row_stride() || a.size(0) <= 1);
  NF_CHECK(same || !overlap(a, b)) << names << " overlap";
}

void check(const RaggedRows& rows) {
  NF_CHECK(rows.num_sequences >= 1) << rows.num_sequences;
  NF_CHECK(rows.num_decode >= 0 && rows.num_decode <= rows.num_sequences)
      << rows.num_decode << " of " << rows.num_sequences;
  NF_CHECK(rows.num_tokens >= rows.num_decode) << rows.num_tokens << " tokens, " << rows.num_decode;
  NF_CHECK(rows.cu_seqlens && is_index(rows.cu_seqlens) &&
           (rows.cu_seqlens.shape() == Shape{rows.num_sequences + 1}))
      << rows.cu_seqlens.shape().to_string();
  NF_CHECK(rows.context_lens && is_index(rows.context_lens) &&
           (rows.context_lens.shape() == Shape{rows.num_sequences}))
      << rows.context_lens.shape().to_string();
  NF_CHECK(!rows.state_slots ||
           (is_index(rows.state_slots) && (rows.state_slots.shape() == Shape{rows.num_sequences})))
      << rows.state_slots.shape().to_string();
  NF_CHECK(!rows.block_tables ||
           (rows.block_tables.dtype() == DType::kI32 && rows.block_tables.shape().rank() == 2 &&
            rows.block_tables.size(0) == rows.num_sequences))
      << rows.block_tables.shape().to_string();
}

}  // namespace nemoforge::ops
