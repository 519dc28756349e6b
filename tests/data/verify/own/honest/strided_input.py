# a non-contiguous view is handed to the kernel with its strides, the output filled in place
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def copy_strided(x_ptr, y_ptr, M, N, sxm, sxn, sym, syn, BM: tl.constexpr, BN: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    mask = (rm[:, None] < M) & (rn[None, :] < N)
    x = tl.load(x_ptr + rm[:, None] * sxm + rn[None, :] * sxn, mask=mask)
    tl.store(y_ptr + rm[:, None] * sym + rn[None, :] * syn, 2.0 * x, mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        view = x.transpose(-2, -1)
        M, N = view.shape[-2:]
        y = torch.zeros(view.shape, dtype=x.dtype, device=x.device)
        grid = (triton.cdiv(M, 16), triton.cdiv(N, 32))
        copy_strided[grid](view, y, M, N, *view.stride()[-2:], *y.stride()[-2:], BM=16, BN=32)
        return y
