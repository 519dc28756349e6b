import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def depthwise(x_ptr, weight_ptr, out_ptr, count, C, H, W, OH, OW, stride, padding, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = index < count
    column = index % OW
    row = index // OW % OH
    plane = index // OW // OH
    channel = plane % C
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for dy in tl.static_range(SIZE):
        y = row * stride - padding + dy
        for dx in tl.static_range(SIZE):
            x = column * stride - padding + dx
            inside = mask & (y >= 0) & (y < H) & (x >= 0) & (x < W)
            weight = tl.load(weight_ptr + (channel * SIZE + dy) * SIZE + dx, mask=mask, other=0.0)
            total += weight * tl.load(x_ptr + (plane * H + y) * W + x, mask=inside, other=0.0)
    tl.store(out_ptr + index, total, mask=mask)


class ModelNew(nn.Module):
    def __init__(self, in_channels, kernel_size, stride=1, padding=0, bias=False):
        super().__init__()
        self.conv2d = nn.Conv2d(in_channels, in_channels, kernel_size, stride=stride, padding=padding, groups=in_channels,
                                bias=bias)
        self.size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x):
        x = x.contiguous()
        N, C, H, W = x.shape
        OH = (H + 2 * self.padding - self.size) // self.stride + 1
        OW = (W + 2 * self.padding - self.size) // self.stride + 1
        out = torch.empty((N, C, OH, OW), device=x.device, dtype=x.dtype)
        depthwise[(triton.cdiv(out.numel(), 1024),)](x, self.conv2d.weight, out, out.numel(), C, H, W, OH, OW, self.stride,
                                                     self.padding, SIZE=self.size, BLOCK=1024)
        return out
