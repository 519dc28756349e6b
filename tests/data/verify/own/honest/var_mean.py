import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def stats(x_ptr, var_ptr, mean_ptr, C, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < C
    x = tl.load(x_ptr + row * C + cols, mask=mask, other=0.0)
    mean = tl.sum(x, 0) / C
    d = tl.where(mask, x - mean, 0.0)
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, tl.sum(d * d, 0) / C)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x):
        var = torch.empty(x.shape[0], dtype=x.dtype, device=x.device)
        mean = torch.empty_like(var)
        stats[(x.shape[0],)](x, var, mean, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
        return var, mean
