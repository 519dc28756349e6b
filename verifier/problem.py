"""A problem in KernelBench's form, loaded, and its reference in the precision asked for."""

import ast
import copy
import random
import types

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from distributions import make_inputs
from tensors import leaves, map_tensors

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
RMS_FLOOR = 1e-7
NUM_KEPT_MODELS = 2


class ProblemError(Exception):
    """The problem file cannot serve as a problem."""


class _Override(ast.NodeTransformer):
    def __init__(self, values):
        self.values = values
        self.replaced = set()

    def visit_Module(self, node):
        for statement in node.body:
            if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                target = statement.targets[0]
                if isinstance(target, ast.Name) and target.id in self.values:
                    statement.value = ast.parse(repr(self.values[target.id]), mode="eval").body
                    self.replaced.add(target.id)
        return ast.fix_missing_locations(node)


def seed_everything(seed):
    torch.manual_seed(seed)
    np.random.seed(seed % (1 << 32))
    random.seed(seed)


class OperatorList(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls):
        return False  # keeps torch._dynamo and its seconds of imports out

    def __init__(self):
        super().__init__()
        self.operators = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split(".")[0]
        self.operators[name] = self.operators.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


class Problem:
    """device: where the models and the inputs live and the reference runs."""

    def __init__(self, path, overrides, device="cpu"):
        self.device = device
        self._made = {}
        with open(path, encoding="utf-8") as file:
            source = file.read()
        override = _Override(overrides)
        tree = override.visit(ast.parse(source, path))
        unknown = set(overrides) - override.replaced
        if unknown:
            raise ProblemError(f"the problem has no module constant {sorted(unknown)[0]}")
        module = types.ModuleType("problem")
        exec(compile(tree, path, "exec"), module.__dict__)
        for name in ("Model", "get_inputs", "get_init_inputs"):
            if not hasattr(module, name):
                raise ProblemError(f"the problem defines no {name}")
        self.module = module
        self.evaluate = False
        seed_everything(42)
        self.init_inputs = list(module.get_init_inputs())

    def construct(self, seed):
        seed_everything(seed)
        if self.device == "cpu":
            model = self.module.Model(*copy.deepcopy(self.init_inputs))
        else:
            model = copy.deepcopy(self._made_on_device(seed))
        return model.eval() if self.evaluate else model

    def _made_on_device(self, seed):
        """Random numbers for large models are made on the CPU, where they take seconds: the last models are kept as they
        were made, and copied on the GPU."""
        if seed not in self._made:
            while len(self._made) >= NUM_KEPT_MODELS:
                self._made.pop(next(iter(self._made)))
            self._made[seed] = self.module.Model(*copy.deepcopy(self.init_inputs)).to(self.device)
        return self._made[seed]

    def inputs(self, seed, kind):
        return make_inputs(self.module.get_inputs, seed, kind, self.device)

    @staticmethod
    def state(model):
        state = dict(model.named_parameters(remove_duplicate=False))
        state.update(model.named_buffers(remove_duplicate=False))
        return state

    @classmethod
    def perturbed(cls, model, seed):
        """A copy of the model with other parameters and buffers of similar size; what was positive stays so."""
        model = copy.deepcopy(model)
        with torch.no_grad():
            generators = {}
            for tensor in cls.state(model).values():
                if not tensor.dtype.is_floating_point or tensor.numel() == 0:
                    continue
                size = float(tensor.double().pow(2).mean().sqrt())
                scale = size if size > 0 else 0.3
                generator = generators.setdefault(tensor.device, torch.Generator(device=tensor.device).manual_seed(seed))
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64, device=tensor.device) * 0.5 * scale
                moved = tensor.double() + noise
                if bool((tensor >= 0).all()) and size > 0:
                    moved = moved.abs() + 0.05 * scale
                tensor.copy_(moved)
        return model

    @staticmethod
    def eager(model, inputs):
        """Outputs as they come, on copies of model and inputs."""
        with torch.no_grad():
            return copy.deepcopy(model)(*map_tensors(inputs, lambda x: x.clone()))

    @staticmethod
    def oracle(model, inputs, rounded=None):
        """Outputs in float64; rounded: a function applied to every floating input and parameter before."""
        rounded = rounded or (lambda x: x)
        exact = lambda x: rounded(x).double() if x.dtype.is_floating_point else x.clone()  # noqa: E731
        model = copy.deepcopy(model)
        for tensor in Problem.state(model).values():
            if tensor.dtype.is_floating_point:
                tensor.data = exact(tensor.data)
        for part in model.modules():
            for name, value in list(vars(part).items()):
                if isinstance(value, torch.Tensor) and value.dtype.is_floating_point:
                    setattr(part, name, exact(value))
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with torch.no_grad():
                return model(*map_tensors(inputs, exact))
        finally:
            torch.set_default_dtype(default)


def worst_ratio(values, oracle, tolerance):
    """The largest |y - r| in units of the tolerance's bound; inf where something is not finite or not equal."""
    y, r = values.double(), oracle.double()
    if y.shape != r.shape:
        return float("inf")
    if y.numel() == 0:
        return 0.0
    if not oracle.dtype.is_floating_point:
        return 0.0 if torch.equal(values, oracle) else float("inf")
    finite = torch.isfinite(r)
    same = torch.where(finite, torch.zeros_like(r), torch.where((y == r) | (y.isnan() & r.isnan()), 0.0, float("inf")))
    kept = r[finite]
    rms = max(float(kept.pow(2).mean().sqrt()) if kept.numel() else 0.0, RMS_FLOOR)
    ratio = torch.where(finite, (y - r).abs() / (tolerance * (rms + r.abs())), same)
    return float(ratio.nan_to_num(nan=float("inf")).max())


def outputs_of(result):
    outputs = leaves(result)
    if not outputs:
        raise ProblemError("the reference returns no tensor")
    return outputs


def to_tf32(x):
    if x.dtype != torch.float32:
        return x
    return ((x.contiguous().view(torch.int32)) & ~0x1FFF).view(torch.float32)


def to_fp16(x):
    return x.half().to(x.dtype) if x.dtype == torch.float32 else x
