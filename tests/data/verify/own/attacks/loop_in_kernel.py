import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def forever(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = 0
    while i < n:
        i += 0
    tl.store(y_ptr, 0.0)


class ModelNew(nn.Module):
    def __init__(self, *args):
        super().__init__()

    def forward(self, x):
        y = torch.empty_like(x)
        forever[(1,)](x, y, x.numel(), BLOCK=16)
        return y
