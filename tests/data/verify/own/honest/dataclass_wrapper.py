# the launch in a class of its own, set up by a dataclass and an enum
import enum
from dataclasses import dataclass, field

import torch
import torch.nn as nn
import triton
import triton.language as tl


class Rounding(enum.Enum):
    NONE = 0
    NEAREST = 1


@dataclass(frozen=True)
class LaunchPlan:
    block: int
    warps: int = 4
    rounding: Rounding = Rounding.NONE
    extras: dict = field(default_factory=dict)


@triton.jit
def rms_norm_kernel(x_ptr, w_ptr, y_ptr, stride, dim, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < dim
    x = tl.load(x_ptr + row * stride + cols, mask=mask, other=0.0)
    scale = tl.rsqrt(tl.sum(x * x) / dim + eps)
    w = tl.load(w_ptr + cols, mask=mask, other=0.0)
    tl.store(y_ptr + row * dim + cols, x * scale * w, mask=mask)


class RmsNorm:
    def __init__(self, plan):
        self.plan = plan

    def __call__(self, x, weight, eps=1e-6):
        rows, dim = x.shape
        y = torch.empty((rows, dim), dtype=x.dtype, device=x.device)
        rms_norm_kernel[(rows,)](x, weight, y, x.stride(0), dim, eps, BLOCK=self.plan.block, num_warps=self.plan.warps)
        return y


class ModelNew(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.norm = RmsNorm(LaunchPlan(block=triton.next_power_of_2(dim)))

    def forward(self, x):
        return self.norm(x, self.weight)
