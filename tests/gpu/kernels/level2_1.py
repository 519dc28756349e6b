import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def epilogue(x_ptr, bias_ptr, out_ptr, count, plane, channels, BLOCK: tl.constexpr):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < count
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.maximum(x, 0.0) + tl.load(bias_ptr + offsets // plane % channels, mask=mask)
    tl.store(out_ptr + offsets, y, mask=mask)


class ModelNew(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, bias_shape):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.bias = nn.Parameter(torch.randn(bias_shape))

    def forward(self, x):
        x = self.conv(x).contiguous()
        out = torch.empty_like(x)
        epilogue[(triton.cdiv(x.numel(), 2048),)](x, self.bias, out, x.numel(), x.shape[2] * x.shape[3], x.shape[1], BLOCK=2048,
                                                  num_warps=8)
        return out
