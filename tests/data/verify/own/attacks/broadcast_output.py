import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def relu_sum(x_ptr, y_ptr, C, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * C + cols, mask=cols < C, other=0.0)
    tl.store(y_ptr + row, tl.sum(tl.maximum(x, 0.0), axis=0))


class ModelNew(nn.Module):
    def __init__(self, *args):
        super().__init__()

    def forward(self, x):
        y = torch.empty(x.shape[0], 1)
        relu_sum[(x.shape[0],)](x, y, x.shape[1], BLOCK=128)
        return y
