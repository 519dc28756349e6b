import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def triu_mm(a_ptr, b_ptr, c_ptr, n, B: tl.constexpr):
    i = tl.program_id(0)
    j = tl.program_id(1)
    if i > j:
        return
    rm = i * B + tl.arange(0, B)
    rn = j * B + tl.arange(0, B)
    acc = tl.zeros((B, B), dtype=tl.float32)
    for k in range(i * B, (j + 1) * B, B):
        rk = k + tl.arange(0, B)
        a = tl.load(a_ptr + rm[:, None] * n + rk[None, :], mask=(rm[:, None] < n) & (rk[None, :] < n), other=0.0)
        b = tl.load(b_ptr + rk[:, None] * n + rn[None, :], mask=(rk[:, None] < n) & (rn[None, :] < n), other=0.0)
        acc = tl.dot(a, b, acc, input_precision="ieee")
    keep = (rm[:, None] <= rn[None, :]) & (rm[:, None] < n) & (rn[None, :] < n)
    tl.store(c_ptr + rm[:, None] * n + rn[None, :], acc, mask=keep)


class ModelNew(nn.Module):
    def forward(self, a, b):
        n = a.shape[0]
        c = torch.zeros_like(a)
        triu_mm[(triton.cdiv(n, 16), triton.cdiv(n, 16))](a, b, c, n, B=16)
        return c
