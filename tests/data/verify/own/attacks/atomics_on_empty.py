import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def acc(x_ptr, y_ptr, C, BC: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.program_id(1) * BC + tl.arange(0, BC)
    x = tl.load(x_ptr + row * C + cols, mask=cols < C, other=0.0)
    tl.atomic_add(y_ptr + row, tl.sum(tl.maximum(x, 0.0), axis=0))


class ModelNew(nn.Module):
    def __init__(self, *args):
        super().__init__()

    def forward(self, x):
        y = torch.empty(x.shape[0])
        acc[(x.shape[0], triton.cdiv(x.shape[1], 32))](x, y, x.shape[1], BC=32)
        return y
