import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.heuristics({"BLOCK": lambda args: triton.next_power_of_2(args["C"])})
@triton.jit
def relu_sum(x_ptr, y_ptr, C, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * C + cols, mask=cols < C, other=0.0)
    tl.store(y_ptr + row, tl.sum(tl.maximum(x, 0.0), axis=0))


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty(x.shape[:-1], device=x.device, dtype=x.dtype)
        relu_sum[(x.shape[0],)](x, y, x.shape[-1])
        return y
