import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def nan_tail(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = offs < n
    y = tl.maximum(tl.load(x_ptr + offs, mask=m, other=0.0), 0.0) * 3.0
    tl.store(y_ptr + offs, tl.where(offs == n - 1, float("nan"), y), mask=m)


class ModelNew(nn.Module):
    def __init__(self, *args):
        super().__init__()

    def forward(self, x):
        y = torch.empty_like(x)
        nan_tail[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
        return y
