import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def oob(x_ptr, y_ptr, C, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * C + cols)
    tl.store(y_ptr + row, tl.sum(tl.where(cols < C, tl.maximum(x, 0.0), 0.0), axis=0))


class ModelNew(nn.Module):
    def __init__(self, *args):
        super().__init__()

    def forward(self, x):
        y = torch.empty(x.shape[0])
        oob[(x.shape[0],)](x, y, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
        return y
