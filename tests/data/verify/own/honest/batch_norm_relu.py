import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def bn_relu(x_ptr, w_ptr, b_ptr, y_ptr, N, C, HW, eps, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    total = N * HW
    s = 0.0
    s2 = 0.0
    for start in range(0, total, BLOCK):
        i = start + tl.arange(0, BLOCK)
        m = i < total
        offs = (i // HW) * C * HW + c * HW + i % HW
        x = tl.load(x_ptr + offs, mask=m, other=0.0)
        s += tl.sum(x, axis=0)
    mean = s / total
    for start in range(0, total, BLOCK):
        i = start + tl.arange(0, BLOCK)
        m = i < total
        offs = (i // HW) * C * HW + c * HW + i % HW
        d = tl.where(m, tl.load(x_ptr + offs, mask=m, other=0.0) - mean, 0.0)
        s2 += tl.sum(d * d, axis=0)
    inv = tl.rsqrt(s2 / total + eps)
    w = tl.load(w_ptr + c)
    b = tl.load(b_ptr + c)
    for start in range(0, total, BLOCK):
        i = start + tl.arange(0, BLOCK)
        m = i < total
        offs = (i // HW) * C * HW + c * HW + i % HW
        x = tl.load(x_ptr + offs, mask=m, other=0.0)
        tl.store(y_ptr + offs, tl.maximum((x - mean) * inv * w + b, 0.0), mask=m)


class ModelNew(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        x = x.contiguous()
        N, C, H, W = x.shape
        y = torch.empty_like(x)
        bn_relu[(C,)](x, self.bn.weight, self.bn.bias, y, N, C, H * W, self.bn.eps, BLOCK=128)
        return y
