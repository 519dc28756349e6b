import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def scale_rows(a_ptr, b_ptr, out_ptr, M, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < M
    b = tl.load(b_ptr + row * M + columns, mask=mask)
    tl.store(out_ptr + row * M + columns, tl.load(a_ptr + row) * b, mask=mask)


class ModelNew(nn.Module):
    def forward(self, A, B):
        N, M = B.shape
        out = torch.empty_like(B)
        scale_rows[(N, triton.cdiv(M, 2048))](A, B, out, M, BLOCK=2048)
        return out
