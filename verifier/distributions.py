"""Inputs of a trial: get_inputs() under a seed, then, by the trial's kind, other values in the same places."""

import torch

from tensors import map_tensors

KINDS = ("plain", "normal", "normal3", "uniform", "negated", "large", "small", "zeros", "constant", "integers", "ramp",
         "outliers")
TIES = {"zeros", "constant", "integers"}  # a kind in which an index of a maximum is not unique


def _is_simplex(x):
    return x.dim() >= 1 and x.shape[-1] > 1 and bool((x >= 0).all()) and bool(
        ((x.double().sum(-1) - 1).abs() < 1e-3).all()
    )


def _values(x, kind, generator):
    normal = lambda: torch.randn(x.shape, generator=generator, dtype=torch.float64)  # noqa: E731
    if kind == "normal":
        return normal()
    if kind == "normal3":
        return normal() * 3
    if kind == "uniform":
        return torch.rand(x.shape, generator=generator, dtype=torch.float64) * 2 - 1
    if kind == "negated":
        return -x.double()
    if kind == "large":
        return x.double() * 64
    if kind == "small":
        return x.double() * 2.0**-10
    if kind == "zeros":
        return torch.zeros(x.shape, dtype=torch.float64)
    if kind == "constant":
        return torch.full(x.shape, float(torch.rand((), generator=generator)) * 2 - 0.7, dtype=torch.float64)
    if kind == "integers":
        return torch.randint(-2, 3, x.shape, generator=generator).double()
    if kind == "ramp":
        count = max(1, x.numel())
        return ((torch.arange(x.numel(), dtype=torch.float64) * 0.37) % 4 - 2 + torch.arange(x.numel()) / count).reshape(x.shape)
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
        if zeros.double().mean() > 0.02:  # triangular, banded, masked or sparse
            values = values.masked_fill(zeros, 0.0)
        if x.dim() == 2 and x.shape[0] == x.shape[1] and x.shape[0] > 1 and torch.equal(x, x.t()):
            values = (values + values.t()) / 2
        if x.dim() >= 1 and x.shape[-1] > 2 and kind in ("normal", "normal3", "uniform", "outliers", "integers", "ramp"):
            if bool((x[..., 1:] >= x[..., :-1]).all()) and not bool((x == x.reshape(-1)[0]).all()):
                values = values.sort(dim=-1).values
    replaced = x.detach().clone(memory_format=torch.preserve_format)
    replaced.copy_(values)
    return replaced


def make_inputs(get_inputs, seed, kind):
    torch.manual_seed(seed)
    inputs = list(get_inputs())
    if kind == "plain":
        return inputs
    generator = torch.Generator().manual_seed(seed ^ 0x5DEECE66D)
    return map_tensors(inputs, lambda x: _replace(x, kind, generator))


def kernelbench_seeds(count):
    """The seeds of KernelBench's own correctness trials, which anyone can know."""
    torch.manual_seed(42)
    return [int(torch.randint(0, 2**32 - 1, (1,)).item()) for _ in range(count)]
