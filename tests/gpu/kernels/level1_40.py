import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def partial_sums(x_ptr, sums_ptr, count, parts, BLOCK: tl.constexpr, STEPS: tl.constexpr):
    row, part = tl.program_id(0), tl.program_id(1)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    square = tl.zeros((BLOCK,), dtype=tl.float32)
    base = x_ptr + row.to(tl.int64) * count
    for step in range(STEPS):
        offsets = (part * STEPS + step) * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(base + offsets, mask=offsets < count, other=0.0)
        total += x
        square += x * x
    tl.store(sums_ptr + (row * parts + part) * 2, tl.sum(total))
    tl.store(sums_ptr + (row * parts + part) * 2 + 1, tl.sum(square))


@triton.jit
def normalize(x_ptr, sums_ptr, weight_ptr, bias_ptr, out_ptr, count, parts, eps, BLOCK: tl.constexpr, PARTS: tl.constexpr):
    row = tl.program_id(0)
    part = tl.arange(0, PARTS)
    total = tl.sum(tl.load(sums_ptr + (row * parts + part) * 2, mask=part < parts, other=0.0))
    square = tl.sum(tl.load(sums_ptr + (row * parts + part) * 2 + 1, mask=part < parts, other=0.0))
    mean = total / count
    scale = tl.rsqrt(square / count - mean * mean + eps)
    offsets = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < count
    x = tl.load(x_ptr + row.to(tl.int64) * count + offsets, mask=mask)
    weight = tl.load(weight_ptr + offsets, mask=mask)
    bias = tl.load(bias_ptr + offsets, mask=mask)
    tl.store(out_ptr + row.to(tl.int64) * count + offsets, (x - mean) * scale * weight + bias, mask=mask)


class ModelNew(nn.Module):
    def __init__(self, normalized_shape):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x):
        x = x.contiguous()
        count = self.ln.weight.numel()
        rows = x.numel() // count
        parts = triton.cdiv(count, 2048 * 16)
        sums = torch.empty((rows, parts, 2), device=x.device, dtype=torch.float32)
        out = torch.empty_like(x)
        partial_sums[(rows, parts)](x, sums, count, parts, BLOCK=2048, STEPS=16, num_warps=8)
        normalize[(rows, triton.cdiv(count, 4096))](x, sums, self.ln.weight, self.ln.bias, out, count, parts, self.ln.eps,
                                                    BLOCK=4096, PARTS=triton.next_power_of_2(parts), num_warps=8)
        return out
