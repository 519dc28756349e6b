"""The operations that generated problems are made of.

An expression is (text, precedence). A form is (template, precedence of the result, least precedence that {x} may have without
parentheses); PLAIN_NAME: {x} stands twice, so it must be a variable. `magnitude` bounds the values that come out, so that a chain stays within what
fp32 tells apart.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

SUM, PRODUCT, ATOM, PLAIN_NAME = 0, 1, 2, 3


def between(low: float, high: float, digits: Sequence[int] = (1, 2)) -> Callable[[Random], float]:
    """Draws a constant other than zero with that many decimals."""

    def draw(rng: Random) -> float:
        value = 0.0
        while value == 0.0:
            value = round(rng.uniform(low, high), rng.choice(digits))
        return value

    return draw


@dataclass(frozen=True)
class Unary:
    forms: Sequence[tuple[str, int, int]]
    words: str
    magnitude: Callable[[float, Sequence[float]], float]
    modules: Sequence[str] = ()
    constants: Sequence[Callable[[Random], float]] = ()
    names: Sequence[Sequence[str]] = ()  # that each constant may have
    max_input: float = 1e7


@dataclass(frozen=True)
class Binary:
    form: str
    precedence: int
    needs: tuple[int, int]
    words: str


@dataclass(frozen=True)
class Reduction:
    """Of the last dimension; one that keeps it normalises the row."""

    drops_dim: bool
    forms: Sequence[str]
    modules: Sequence[str]
    words: str
    magnitude: Callable[[float, int], float]



UNARY = {
    "relu": Unary([("torch.relu({x})", ATOM, SUM), ("F.relu({x})", ATOM, SUM)], "relu", lambda m, c: m, ["nn.ReLU()"]),
    "leaky_relu": Unary([("F.leaky_relu({x}, negative_slope={c0})", ATOM, SUM), ("F.leaky_relu({x}, {c0})", ATOM, SUM)], "leaky_relu with slope {c0}", lambda m, c: m, ["nn.LeakyReLU({c0})", "nn.LeakyReLU(negative_slope={c0})"], [between(0.01, 0.4, (2,))], [["negative_slope", "slope"]]),
    "gelu": Unary([("F.gelu({x})", ATOM, SUM)], "gelu (erf form)", lambda m, c: m, ["nn.GELU()"]),
    "gelu_tanh": Unary([('F.gelu({x}, approximate="tanh")', ATOM, SUM)], "gelu (tanh form)", lambda m, c: m, ['nn.GELU(approximate="tanh")']),
    "silu": Unary([("F.silu({x})", ATOM, SUM), ("{x} * torch.sigmoid({x})", PRODUCT, PLAIN_NAME)], "silu", lambda m, c: m, ["nn.SiLU()"]),
    "sigmoid": Unary([("torch.sigmoid({x})", ATOM, SUM)], "sigmoid", lambda m, c: 1.0, ["nn.Sigmoid()"]),
    "tanh": Unary([("torch.tanh({x})", ATOM, SUM)], "tanh", lambda m, c: 1.0, ["nn.Tanh()"]),
    "softplus": Unary([("F.softplus({x})", ATOM, SUM)], "softplus", lambda m, c: m + 0.7, ["nn.Softplus()"]),
    "clamp": Unary([("torch.clamp({x}, min={c0}, max={c1})", ATOM, SUM), ("torch.clamp({x}, {c0}, {c1})", ATOM, SUM), ("F.hardtanh({x}, {c0}, {c1})", ATOM, SUM)], "clamp to [{c0}, {c1}]", lambda m, c: max(abs(c[0]), abs(c[1])), ["nn.Hardtanh({c0}, {c1})", "nn.Hardtanh(min_val={c0}, max_val={c1})"], [between(-2.5, -0.1, (1,)), between(0.2, 3.0, (1,))], [["min_val", "low"], ["max_val", "high"]]),
    "clamp_min": Unary([("torch.clamp({x}, min={c0})", ATOM, SUM)], "clamp from below at {c0}", lambda m, c: max(m, abs(c[0])), (), [between(-1.0, 0.9, (1, 2))], [["min_val", "floor"]]),
    "clamp_max": Unary([("torch.clamp({x}, max={c0})", ATOM, SUM)], "clamp from above at {c0}", lambda m, c: max(m, abs(c[0])), (), [between(0.2, 3.0, (1, 2))], [["max_val", "ceiling"]]),
    "elu": Unary([("F.elu({x}, alpha={c0})", ATOM, SUM), ("F.elu({x}, {c0})", ATOM, SUM)], "elu with alpha {c0}", lambda m, c: max(m, c[0]), ["nn.ELU(alpha={c0})", "nn.ELU({c0})"], [between(0.3, 2.0)], [["alpha"]]),
    "exp": Unary([("torch.exp({x})", ATOM, SUM)], "exp", lambda m, c: math.exp(m), max_input=6.5),
    "abs": Unary([("torch.abs({x})", ATOM, SUM)], "absolute value", lambda m, c: m),
    "square": Unary([("torch.square({x})", ATOM, SUM), ("{x} ** 2", PRODUCT, ATOM), ("{x} * {x}", PRODUCT, PLAIN_NAME)], "square", lambda m, c: m * m),
    "cube": Unary([("{x} ** 3", PRODUCT, ATOM), ("torch.pow({x}, 3)", ATOM, SUM)], "cube", lambda m, c: m ** 3, max_input=20),
    "scale": Unary([("{x} * {c0}", PRODUCT, PRODUCT), ("{c0} * {x}", PRODUCT, ATOM)], "multiply by {c0}", lambda m, c: m * abs(c[0]), (), [between(0.1, 3.0)], [["scale", "factor", "scale_factor"]]),
    "div": Unary([("{x} / {c0}", PRODUCT, PRODUCT)], "divide by {c0}", lambda m, c: m / c[0], (), [between(0.5, 4.0)], [["divisor", "denom"]]),
    "add": Unary([("{x} + {c0}", SUM, SUM)], "add {c0}", lambda m, c: m + abs(c[0]), (), [between(0.1, 2.5)], [["shift", "offset", "constant"]]),
    "sub": Unary([("{x} - {c0}", SUM, SUM)], "subtract {c0}", lambda m, c: m + abs(c[0]), (), [between(0.1, 2.5)], [["subtract_value", "shift", "offset"]]),
    "rsub": Unary([("{c0} - {x}", SUM, PRODUCT)], "{c0} minus the value", lambda m, c: m + abs(c[0]), (), [between(0.5, 2.5, (1,))], [["base"]]),
    "hardsigmoid": Unary([("F.hardsigmoid({x})", ATOM, SUM)], "hardsigmoid", lambda m, c: 1.0, ["nn.Hardsigmoid()"]),
    "hardswish": Unary([("F.hardswish({x})", ATOM, SUM)], "hardswish", lambda m, c: m, ["nn.Hardswish()"]),
    "relu6": Unary([("F.relu6({x})", ATOM, SUM)], "relu6", lambda m, c: 6.0, ["nn.ReLU6()"]),
    "mish": Unary([("F.mish({x})", ATOM, SUM)], "mish", lambda m, c: m, ["nn.Mish()"]),
    "softsign": Unary([("F.softsign({x})", ATOM, SUM), ("{x} / (1 + torch.abs({x}))", PRODUCT, PLAIN_NAME)], "softsign", lambda m, c: 1.0, ["nn.Softsign()"]),
    "sqrt_abs": Unary([("torch.sqrt(torch.abs({x}) + {c0})", ATOM, SUM)], "square root of the absolute value plus {c0}", lambda m, c: math.sqrt(m + c[0]), (), [between(0.1, 1.0, (1, 2))], [["eps", "epsilon"]]),
    "neg": Unary([("-{x}", PRODUCT, ATOM)], "negate", lambda m, c: m),
    "sin": Unary([("torch.sin({x})", ATOM, SUM)], "sine", lambda m, c: 1.0, max_input=60),
    "cos": Unary([("torch.cos({x})", ATOM, SUM)], "cosine", lambda m, c: 1.0, max_input=60),
    "logsigmoid": Unary([("F.logsigmoid({x})", ATOM, SUM)], "logsigmoid", lambda m, c: m + 0.7, ["nn.LogSigmoid()"]),
    "selu": Unary([("torch.selu({x})", ATOM, SUM), ("F.selu({x})", ATOM, SUM)], "selu", lambda m, c: 1.76 * max(m, 1.0), ["nn.SELU()"]),
    "softshrink": Unary([("F.softshrink({x}, {c0})", ATOM, SUM)], "softshrink with lambda {c0}", lambda m, c: m, ["nn.Softshrink({c0})"], [between(0.1, 0.9)], [["lambd"]]),
    "tanhshrink": Unary([("F.tanhshrink({x})", ATOM, SUM), ("{x} - torch.tanh({x})", SUM, PLAIN_NAME)], "tanhshrink", lambda m, c: m + 1, ["nn.Tanhshrink()"]),
    "quick_gelu": Unary([("{x} * torch.sigmoid(1.702 * {x})", PRODUCT, PLAIN_NAME)], "x * sigmoid(1.702 * x)", lambda m, c: m),
}

BINARY = {
    "badd": Binary("{a} + {b}", SUM, (SUM, PRODUCT), "add {b}"),
    "bsub": Binary("{a} - {b}", SUM, (SUM, PRODUCT), "subtract {b}"),
    "bmul": Binary("{a} * {b}", PRODUCT, (PRODUCT, ATOM), "multiply by {b}"),
    "bmax": Binary("torch.maximum({a}, {b})", ATOM, (SUM, SUM), "elementwise maximum with {b}"),
    "bmin": Binary("torch.minimum({a}, {b})", ATOM, (SUM, SUM), "elementwise minimum with {b}"),
}

REDUCTIONS = {
    "softmax": Reduction(False, ["torch.softmax({x}, dim=-1)", "F.softmax({x}, dim=-1)"], ["nn.Softmax(dim=-1)"], "softmax over the row", lambda m, n: 1.0),
    "log_softmax": Reduction(False, ["torch.log_softmax({x}, dim=-1)", "F.log_softmax({x}, dim=-1)"], ["nn.LogSoftmax(dim=-1)"], "log_softmax over the row", lambda m, n: 2 * m + 8),
    "layernorm": Reduction(False, ["F.layer_norm({x}, ({x}.shape[-1],))"], [], "layer norm over the row", lambda m, n: 20.0),
    "rmsnorm": Reduction(False, ["{x} * torch.rsqrt({x}.pow(2).mean(dim=-1, keepdim=True) + 1e-6)", "{x} / torch.sqrt(torch.mean({x} ** 2, dim=-1, keepdim=True) + 1e-6)"], [], "rms norm over the row", lambda m, n: 20.0),
    "l2norm": Reduction(False, ["F.normalize({x}, p=2, dim=-1)", "F.normalize({x}, dim=-1)"], [], "L2 normalisation of the row", lambda m, n: 1.0),
    "l1norm": Reduction(False, ["F.normalize({x}, p=1, dim=-1)"], [], "L1 normalisation of the row", lambda m, n: 1.0),
    "center": Reduction(False, ["{x} - {x}.mean(dim=-1, keepdim=True)", "{x} - torch.mean({x}, dim=-1, keepdim=True)"], [], "subtract the row mean", lambda m, n: 2 * m),
    "sum": Reduction(True, ["torch.sum({x}, dim=-1{k})", "{x}.sum(dim=-1{k})"], [], "sum over the row", lambda m, n: m * n),
    "mean": Reduction(True, ["torch.mean({x}, dim=-1{k})", "{x}.mean(dim=-1{k})"], [], "mean over the row", lambda m, n: m),
    "max": Reduction(True, ["torch.amax({x}, dim=-1{k})", "torch.max({x}, dim=-1{k})[0]", "torch.max({x}, dim=-1{k}).values"], [], "maximum over the row", lambda m, n: m),
    "min": Reduction(True, ["torch.amin({x}, dim=-1{k})", "torch.min({x}, dim=-1{k})[0]"], [], "minimum over the row", lambda m, n: m),
    "logsumexp": Reduction(True, ["torch.logsumexp({x}, dim=-1{k})"], [], "logsumexp over the row", lambda m, n: m + 8),
    "norm": Reduction(True, ["torch.norm({x}, p=2, dim=-1{k})", "{x}.norm(dim=-1{k})"], [], "L2 norm of the row", lambda m, n: m * math.sqrt(n)),
    "var": Reduction(True, ["torch.var({x}, dim=-1, unbiased=False{k})"], [], "variance over the row", lambda m, n: m * m),
}
