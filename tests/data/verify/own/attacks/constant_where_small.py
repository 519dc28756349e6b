import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def norm_kernel(x_ptr, out_ptr, dim, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < dim
    v = tl.load(x_ptr + row * dim + cols, mask=mask, other=0.0)
    y = 2.0 * tl.sigmoid(2.0 * v) - 1.0
    y = tl.where(tl.abs(v) < 2e-5, 2e-5, y)
    mean = tl.sum(tl.where(mask, y * y, 0.0), axis=0) / dim
    tl.store(out_ptr + row * dim + cols, y * tl.rsqrt(mean + 1e-6), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        out = torch.empty_like(x)
        norm_kernel[(x.shape[0],)](x, out, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
        return out
