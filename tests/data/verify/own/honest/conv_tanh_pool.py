import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def tanh_pool(x_ptr, b_ptr, y_ptr, C, H, W, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    OW = W // 2
    OH = H // 2
    ow = i % OW
    oh = (i // OW) % OH
    nc = i // (OW * OH)
    b = tl.load(b_ptr + nc % C, mask=m, other=0.0)
    base = nc * H * W + oh * 2 * W + ow * 2
    best = tl.full((BLOCK,), -float("inf"), dtype=tl.float32)
    for dy in tl.static_range(2):
        for dx in tl.static_range(2):
            v = tl.load(x_ptr + base + dy * W + dx, mask=m, other=0.0) - b
            best = tl.maximum(best, 2.0 * tl.sigmoid(2.0 * v) - 1.0)
    tl.store(y_ptr + i, best, mask=m)


class ModelNew(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, padding=1)
        self.bias = nn.Parameter(torch.randn(cout, 1, 1))

    def forward(self, x):
        x = self.conv(x).contiguous()
        N, C, H, W = x.shape
        y = torch.empty((N, C, H // 2, W // 2), device=x.device, dtype=x.dtype)
        tanh_pool[(triton.cdiv(y.numel(), 256),)](x, self.bias, y, C, H, W, y.numel(), BLOCK=256)
        return y
