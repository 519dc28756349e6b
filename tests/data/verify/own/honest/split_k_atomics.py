# split-K with atomics into zeros, then an epilogue kernel in place with device functions
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def activate(y, SCALE: tl.constexpr):
    y = y * SCALE
    return tl.sigmoid(y) + y


@triton.jit
def project(x_ptr, w_ptr, y_ptr, M, N, K, SPLIT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k0 in range(tl.program_id(2) * BK, K, BK * SPLIT):
        rk = k0 + tl.arange(0, BK)
        x = tl.load(x_ptr + rm[:, None] * K + rk[None, :], mask=(rm[:, None] < M) & (rk[None, :] < K), other=0.0)
        w = tl.load(w_ptr + rn[None, :] * K + rk[:, None], mask=(rn[None, :] < N) & (rk[:, None] < K), other=0.0)
        acc += tl.dot(x, w, input_precision="ieee")
    tl.atomic_add(y_ptr + rm[:, None] * N + rn[None, :], acc, mask=(rm[:, None] < M) & (rn[None, :] < N))


@triton.jit
def epilogue(y_ptr, n, SCALE: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    y = tl.load(y_ptr + offs, mask=mask)
    tl.store(y_ptr + offs, activate(y, SCALE), mask=mask)


class ModelNew(nn.Module):
    def __init__(self, features, scale):
        super().__init__()
        self.proj = nn.Linear(features, features, bias=False)
        self.scale = scale

    def forward(self, x):
        M, K = x.shape
        weight = self.proj.weight
        N = weight.shape[0]
        y = torch.zeros((M, N), device=x.device, dtype=torch.float32)
        project[(triton.cdiv(M, 16), triton.cdiv(N, 16), 2)](x, weight, y, M, N, K, SPLIT=2, BM=16, BN=16, BK=16)
        epilogue[(triton.cdiv(y.numel(), 256),)](y, y.numel(), SCALE=self.scale, BLOCK=256)
        return y
