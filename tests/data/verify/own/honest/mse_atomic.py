import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def mse_kernel(a_ptr, b_ptr, out_ptr, n, inv_n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = offs < n
    d = tl.load(a_ptr + offs, mask=m, other=0.0) - tl.load(b_ptr + offs, mask=m, other=0.0)
    tl.atomic_add(out_ptr, tl.sum(d * d, axis=0) * inv_n)


class ModelNew(nn.Module):
    def forward(self, a, b):
        n = a.numel()
        out = torch.zeros((), device=a.device, dtype=torch.float32)
        mse_kernel[(triton.cdiv(n, 512),)](a, b, out, n, 1.0 / n, BLOCK=512)
        return out
