import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def norm_rows(x_ptr, w_ptr, b_ptr, y_ptr, D, BLOCK: tl.constexpr, EPS: tl.constexpr):
    row = tl.program_id(0)
    mean = 0.0
    for start in range(0, D, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        mean += tl.sum(tl.load(x_ptr + row * D + cols, mask=cols < D, other=0.0), axis=0)
    mean = mean / D
    var = 0.0
    for start in range(0, D, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        d = tl.where(cols < D, tl.load(x_ptr + row * D + cols, mask=cols < D, other=0.0) - mean, 0.0)
        var += tl.sum(d * d, axis=0)
    inv = 1.0 / tl.sqrt(var / D + EPS)
    for start in range(0, D, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        m = cols < D
        x = tl.load(x_ptr + row * D + cols, mask=m)
        tl.store(y_ptr + row * D + cols, (x - mean) * inv * tl.load(w_ptr + cols, mask=m) + tl.load(b_ptr + cols, mask=m), mask=m)


class ModelNew(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gamma_weight = nn.Parameter(torch.ones(dim))
        self.beta_bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        y = torch.empty_like(x)
        norm_rows[(x.shape[0],)](x, self.gamma_weight, self.beta_bias, y, x.shape[1], BLOCK=64, EPS=1e-5)
        return y
