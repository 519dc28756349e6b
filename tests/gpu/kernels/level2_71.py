import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def epilogue(x_ptr, out_ptr, count, divisor, BLOCK: tl.constexpr):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < count
    x = tl.load(x_ptr + offsets, mask=mask)
    x = x / divisor
    y = tl.where(x > 0.0, x, 0.01 * x)
    tl.store(out_ptr + offsets, y, mask=mask)


class ModelNew(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, divisor):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.divisor = divisor

    def forward(self, x):
        x = self.conv(x).contiguous()
        out = torch.empty_like(x)
        epilogue[(triton.cdiv(x.numel(), 2048),)](x, out, x.numel(), self.divisor, BLOCK=2048,
                                                  num_warps=8)
        return out
