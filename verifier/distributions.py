"""Inputs of a trial: get_inputs() under a seed, then, by the trial's kind, other values in the same places."""

import torch

from tensors import map_tensors

KINDS = ("plain", "normal", "normal3", "uniform", "negated", "large", "small", "zeros", "constant", "integers", "ramp",
         "outliers")
TIES = {"zeros", "constant", "integers"}  # a kind in which an index of a maximum is not unique


def _is_simplex(x):
    return x.dim() >= 1 and x.shape[-1] > 1 and bool((x >= 0).all()) and bool(
        ((x.sum(-1, dtype=torch.float64) - 1).abs() < 1e-3).all()
    )


# Tensors of as many elements are filled in float32: their values in float64 are too much for a GPU's memory.
MAX_WIDE_ELEMENTS = 1 << 27


def _values(x, kind, generator):
    wide = torch.float64 if x.numel() <= MAX_WIDE_ELEMENTS else torch.float32
    place = {"dtype": wide, "device": x.device}
    normal = lambda: torch.randn(x.shape, generator=generator, **place)  # noqa: E731
    if kind == "normal":
        return normal()
    if kind == "normal3":
        return normal() * 3
    if kind == "uniform":
        return torch.rand(x.shape, generator=generator, **place) * 2 - 1
    if kind == "negated":
        return -x.to(wide)
    if kind == "large":
        return x.to(wide) * 64
    if kind == "small":
        return x.to(wide) * 2.0**-10
    if kind == "zeros":
        return torch.zeros(x.shape, **place)
    if kind == "constant":
        return torch.full(x.shape, float(torch.rand((), generator=generator, device=x.device)) * 2 - 0.7, **place)
    if kind == "integers":
        return torch.randint(-2, 3, x.shape, generator=generator, **place)
    if kind == "ramp":
        count = max(1, x.numel())
        steps = torch.arange(x.numel(), **place)
        return ((steps * 0.37) % 4 - 2 + steps / count).reshape(x.shape)
    if kind == "outliers":
        return normal() * torch.exp(normal())
    raise ValueError(f"unknown kind of trial {kind}")


def _replace(x, kind, generator):
    if not x.dtype.is_floating_point or x.numel() == 0:
        return x
    if _is_simplex(x):
        # Rows of probabilities stay rows of probabilities.
        values = torch.softmax(_values(x, kind, generator) if kind not in ("negated", "large", "small") else x.double() * 8, -1)
    else:
        values = _values(x, kind, generator)
        zeros = x == 0
        if int(zeros.sum()) > 0.02 * zeros.numel():  # triangular, banded, masked or sparse
            values = values.masked_fill(zeros, 0.0)
        if x.dim() == 2 and x.shape[0] == x.shape[1] and x.shape[0] > 1 and torch.equal(x, x.t()):
            values = (values + values.t()) / 2
        if x.dim() >= 1 and x.shape[-1] > 2 and kind in ("normal", "normal3", "uniform", "outliers", "integers", "ramp"):
            if bool((x[..., 1:] >= x[..., :-1]).all()) and not bool((x == x.reshape(-1)[0]).all()):
                values = values.sort(dim=-1).values
    replaced = x.detach().clone(memory_format=torch.preserve_format)
    replaced.copy_(values)
    return replaced


def make_inputs(get_inputs, seed, kind, device="cpu"):
    torch.manual_seed(seed)
    if device == "cpu":
        inputs = list(get_inputs())
    else:
        with torch.device(device):
            inputs = list(get_inputs())
        inputs = map_tensors(inputs, lambda x: x.to(device))
    if kind == "plain":
        return inputs
    generator = torch.Generator(device=device).manual_seed(seed ^ 0x5DEECE66D)
    return map_tensors(inputs, lambda x: _replace(x, kind, generator))


def kernelbench_seeds(count):
    """The seeds of KernelBench's own correctness trials, which anyone can know."""
    torch.manual_seed(42)
    return [int(torch.randint(0, 2**32 - 1, (1,)).item()) for _ in range(count)]
