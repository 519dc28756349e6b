"""What the card can reach, and the least that an answer to a problem has to move."""

import torch

from problem import outputs_of
from tensors import leaves

COPY_BYTES = 1 << 29
MATRIX = 8192
NUM_POKES = 12
# With all of twelve random elements in use, at least this share of them is, at 95 %.
CERTAIN_SHARE = 0.22


def measure(gpu):
    """Measured rates: bytes copied (read and written) and half-precision products with float32 sums."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=gpu.device).fill_(1)
    target = torch.empty_like(source)
    times = sorted(gpu.timed(target.copy_, (source,))[1]["event_ms"] for _ in range(8))
    matrix = torch.ones(MATRIX, MATRIX, dtype=torch.float16, device=gpu.device)
    products = sorted(gpu.timed(torch.mm, (matrix, matrix))[1]["event_ms"] for _ in range(4))
    del source, target, matrix
    gpu.release()
    return {"name": gpu.name, "memory_bytes": gpu.memory_bytes, "l2_bytes": gpu.l2_bytes,
            "copy_bytes_per_s": 2 * COPY_BYTES / (times[0] * 1e-3), "half_flops_per_s": 2 * MATRIX**3 / (products[0] * 1e-3)}


def used_shares(problem, model, seeds):
    """For each tensor among the inputs a share of its elements that an answer has to look at: what random elements, put
    to extremes one at a time, change in the output. A lower bound, since a few elements stand for all."""
    inputs = problem.inputs(seeds[3], "normal")
    with torch.no_grad():
        base = outputs_of(problem.eager(model, inputs))
    generator = torch.Generator().manual_seed(seeds[6])
    shares = []
    for tensor in leaves(inputs):
        if not tensor.dtype.is_floating_point or tensor.numel() == 0 or not tensor.is_contiguous():
            shares.append(0.0)
            continue
        flat, used = tensor.view(-1), 0
        for _ in range(NUM_POKES):
            index = int(torch.randint(0, flat.numel(), (1,), generator=generator))
            before = float(flat[index])
            for extreme in (1e3, -1e3):
                flat[index] = extreme
                moved = outputs_of(problem.eager(model, inputs))
                flat[index] = before
                if not all(torch.equal(m.nan_to_num(), b.nan_to_num()) for m, b in zip(moved, base)):
                    used += 1
                    break
        shares.append(max(0.0, used / NUM_POKES - CERTAIN_SHARE))
    return shares


def floor(input_bytes, shares, output_bytes, l2_bytes):
    """Bytes that go through the card's memory in any call on cold inputs: the inputs that matter, and what of the
    outputs the cache cannot hold back."""
    read = sum(size * share for size, share in zip(input_bytes, shares))
    return {"bytes": read + max(0, output_bytes - l2_bytes), "input_shares": shares}
