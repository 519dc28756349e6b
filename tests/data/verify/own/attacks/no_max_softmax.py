import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def unstable(x_ptr, y_ptr, C, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    e = tl.where(cols < C, tl.exp(tl.load(x_ptr + row * C + cols, mask=cols < C, other=0.0)), 0.0)
    tl.store(y_ptr + row * C + cols, e / tl.sum(e, axis=0), mask=cols < C)


class ModelNew(nn.Module):
    def __init__(self, *args):
        super().__init__()

    def forward(self, x):
        y = torch.empty_like(x)
        unstable[(x.shape[0],)](x, y, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
        return y
