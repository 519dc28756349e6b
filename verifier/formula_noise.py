"""How far the right answer moves when the functions in it are computed by another formula of the same precision.

tanh(v) written as 2 sigmoid(2v) - 1, or log(sigmoid(v)) as min(v, 0) - log(1 + exp(-|v|)), is what kernels do: its
error is a rounding of the number 1, whatever the size of the result. Where the results are far smaller than 1, or a
norm divides by their size, such a kernel is as right as float32 lets it be and yet far from the tolerance. So the
oracle is evaluated once more with a rounding of 1 added to what these functions return, and the tolerance of a trial
is never less than a small multiple of what comes of it, up to a bound at which zeros still fail."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from problem import RMS_FLOOR, outputs_of, worst_ratio
from tensors import leaves

# Functions whose usual formulas pass through numbers near 1 on the way to a result that may be near 0.
THROUGH_ONE = {
    "aten::" + name
    for name in ("tanh", "sigmoid", "softplus", "log_sigmoid_forward", "gelu", "silu", "mish", "elu", "expm1", "log1p", "erf",
                 "sinh", "asinh", "atanh", "logaddexp", "logsumexp", "_log_softmax")
}
# Kernels compute these in float32, whatever the dtype of their tensors.
ROUNDING = torch.finfo(torch.float32).eps
# A formula of several steps rounds more than once.
MULTIPLE = 2.0
# Bounds of what is forgiven: this share of the output's size (zeros miss by at least half of it somewhere), or where
# the output is smaller than a few roundings of 1, those.
MAX_TOLERANCE = 0.25
MAX_ROUNDINGS = 4.0


class FormulaNoise(TorchDispatchMode):
    """Adds a rounding of max(1, |value|) to the result of each of these functions: of one sign everywhere, or of
    random signs. Sums keep the first and average the second away; differences and norms do the reverse."""

    @classmethod
    def _should_skip_dynamo(cls):
        return False  # keeps torch._dynamo and its seconds of imports out

    def __init__(self, random_signs):
        super().__init__()
        self.num_applied = 0
        self._random_signs = random_signs
        self._generator = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.name().split(".")[0].removesuffix("_") in THROUGH_ONE:
            for value in leaves(result):
                if value.dtype == torch.float64 and value.numel():
                    self._disturb(value)
        return result

    def _disturb(self, value):
        noise = value.abs().clamp(min=1.0) * ROUNDING
        if self._random_signs:
            if self._generator is None:
                self._generator = torch.Generator(device=value.device).manual_seed(1)
            noise = noise * (torch.randint(0, 2, value.shape, generator=self._generator, device=value.device) * 2 - 1)
        value.add_(noise)
        self.num_applied += 1


def _largest(oracle):
    """The most that the tolerance of this output may become."""
    finite = oracle[torch.isfinite(oracle)]
    rms = float(finite.pow(2).mean().sqrt()) if finite.numel() else 0.0
    return max(MAX_TOLERANCE, MAX_ROUNDINGS * ROUNDING / max(rms, RMS_FLOOR))


def widened(problem, model, inputs, oracle, tolerances):
    """The tolerance of each output on these inputs: at least the one given."""
    result = list(tolerances)
    for random_signs in (False, True):
        noise = FormulaNoise(random_signs)
        try:
            with noise:
                moved = outputs_of(problem.oracle(model, inputs))
        except (RuntimeError, TypeError, ValueError):
            break  # a reference that insists on its precision
        if noise.num_applied == 0:
            break
        for i, (m, r) in enumerate(zip(moved, oracle)):
            if r.dtype.is_floating_point:
                result[i] = max(result[i], min(MULTIPLE * worst_ratio(m, r, 1.0), _largest(r)))
    return result
