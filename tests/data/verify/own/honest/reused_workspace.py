# partial sums in a workspace that is allocated once and kept, cleared by the kernel that reads it
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def partial_kernel(a_ptr, b_ptr, part_ptr, n, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    offs = pid * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    d = tl.load(a_ptr + offs, mask=mask, other=0.0) - tl.load(b_ptr + offs, mask=mask, other=0.0)
    tl.store(part_ptr + pid, tl.sum(d * d))


@triton.jit
def finish_kernel(part_ptr, y_ptr, count, n, BLOCK: tl.constexpr):
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, count, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        total += tl.load(part_ptr + offs, mask=offs < count, other=0.0)
        tl.store(part_ptr + offs, tl.zeros((BLOCK,), dtype=tl.float32), mask=offs < count)
    tl.store(y_ptr, tl.sum(total) / n)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.workspaces = {}

    def workspace(self, count, like):
        key = (count, like.device)
        if key not in self.workspaces:
            self.workspaces[key] = torch.empty(count, dtype=torch.float32, device=like.device)
        return self.workspaces[key]

    def forward(self, a, b):
        n = a.numel()
        count = triton.cdiv(n, 512)
        part = self.workspace(count, a)
        y = torch.empty((), dtype=a.dtype, device=a.device)
        partial_kernel[(count,)](a, b, part, n, BLOCK=512)
        finish_kernel[(1,)](part, y, count, n, BLOCK=64)
        return y
