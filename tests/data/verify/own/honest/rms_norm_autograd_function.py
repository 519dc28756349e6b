import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.autotune(configs=[triton.Config({"BLOCK": 64}), triton.Config({"BLOCK": 1024}, num_warps=8)], key=["D"])
@triton.jit
def rms(x_ptr, w_ptr, y_ptr, D, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    acc = tl.zeros((BLOCK,), dtype=tl.float32)
    for s in range(0, D, BLOCK):
        c = s + tl.arange(0, BLOCK)
        v = tl.load(x_ptr + row * D + c, mask=c < D, other=0.0)
        acc += v * v
    scale = tl.rsqrt(tl.sum(acc, axis=0) / D + 1e-6)
    for s in range(0, D, BLOCK):
        c = s + tl.arange(0, BLOCK)
        v = tl.load(x_ptr + row * D + c, mask=c < D, other=0.0)
        w = tl.load(w_ptr + c, mask=c < D, other=0.0)
        tl.store(y_ptr + row * D + c, v * scale * w, mask=c < D)


class RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        """Normalises the last dimension."""
        shape = x.shape
        x = x.reshape(-1, shape[-1]).contiguous()
        y = torch.empty_like(x)
        rms[(x.shape[0],)](x, weight, y, x.shape[1])
        return y.view(shape)


class ModelNew(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return RmsNorm.apply(x, self.weight)
