import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def relu_scale(x_ptr, y_ptr, n, s, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = offs < n
    tl.store(y_ptr + offs, tl.maximum(tl.load(x_ptr + offs, mask=m, other=0.0), 0.0) * s, mask=m)


def run_relu_scale(x):
    y = torch.empty_like(x)
    relu_scale[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), 3.0, BLOCK=1024)
    return y


class Model(nn.Module):
    pass
