# heuristics for a block and a flag, the grid by functools.lru_cache, constants as tl.constexpr globals
import functools

import torch
import torch.nn as nn
import triton
import triton.language as tl

EPS: tl.constexpr = tl.constexpr(1e-5)


@triton.heuristics({"BLOCK": lambda args: triton.next_power_of_2(args["dim"]), "EVEN": lambda args: args["dim"] % 64 == 0})
@triton.jit
def layer_norm_kernel(x_ptr, w_ptr, b_ptr, y_ptr, dim, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    mask = cols < dim
    if EVEN and BLOCK == dim:
        x = tl.load(x_ptr + row * dim + cols)
    else:
        x = tl.load(x_ptr + row * dim + cols, mask=mask, other=0.0)
    mean = tl.sum(x) / dim
    centred = tl.where(mask, x - mean, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred) / dim + EPS)
    w = tl.load(w_ptr + cols, mask=mask, other=0.0)
    b = tl.load(b_ptr + cols, mask=mask, other=0.0)
    tl.store(y_ptr + row * dim + cols, centred * rstd * w + b, mask=mask)


@functools.lru_cache(maxsize=None)
def grid_of(rows):
    return (rows,)


class ModelNew(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.ln = nn.LayerNorm(dim)

    def forward(self, x):
        x2 = x.reshape(-1, x.shape[-1])
        y = torch.empty_like(x2)
        layer_norm_kernel[grid_of(x2.shape[0])](x2, self.ln.weight, self.ln.bias, y, x2.shape[1])
        return y.view(x.shape)
