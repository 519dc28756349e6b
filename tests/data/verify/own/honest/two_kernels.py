import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def gemm_nt(x_ptr, w_ptr, y_ptr, M, N, K, B: tl.constexpr):
    rm = tl.program_id(0) * B + tl.arange(0, B)
    rn = tl.program_id(1) * B + tl.arange(0, B)
    acc = tl.zeros((B, B), dtype=tl.float32)
    for k in range(0, K, B):
        rk = k + tl.arange(0, B)
        x = tl.load(x_ptr + rm[:, None] * K + rk[None, :], mask=(rm[:, None] < M) & (rk[None, :] < K), other=0.0)
        w = tl.load(w_ptr + rn[:, None] * K + rk[None, :], mask=(rn[:, None] < N) & (rk[None, :] < K), other=0.0)
        acc = tl.dot(x, tl.trans(w), acc, input_precision="ieee")
    tl.store(y_ptr + rm[:, None] * N + rn[None, :], acc, mask=(rm[:, None] < M) & (rn[None, :] < N))


@triton.jit
def epilogue(y_ptr, out_ptr, scale, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    y = tl.load(y_ptr + offs, mask=offs < n) * scale
    tl.store(out_ptr + offs, 1.0 / (1.0 + tl.exp(-y)) + y, mask=offs < n)


class ModelNew(nn.Module):
    def __init__(self, features, scale):
        super().__init__()
        self.proj = nn.Linear(features, features, bias=False)
        self.scale = scale

    def forward(self, x):
        M, K = x.shape
        N = self.proj.weight.shape[0]
        y = torch.empty((M, N), device=x.device, dtype=x.dtype)
        gemm_nt[(triton.cdiv(M, 16), triton.cdiv(N, 16))](x, self.proj.weight, y, M, N, K, B=16)
        out = torch.empty_like(y)
        epilogue[(triton.cdiv(y.numel(), 1024),)](y, out, self.scale, y.numel(), BLOCK=1024)
        return out
