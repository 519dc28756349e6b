import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def gather(x_ptr, i_ptr, y_ptr, C, BLOCK: tl.constexpr):
    p = tl.program_id(0)
    row = tl.load(i_ptr + p)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * C + cols, mask=cols < C)
    tl.store(y_ptr + p * C + cols, x * 1.5, mask=cols < C)


class ModelNew(nn.Module):
    def forward(self, x, index):
        y = torch.empty((index.shape[0], x.shape[1]), dtype=x.dtype, device=x.device)
        gather[(index.shape[0],)](x, index, y, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
        return y
