"""What a problem needs, in bytes and arithmetic: counted on tensors that have shapes and no memory, before anything is
computed."""

import os

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from problem import Problem, outputs_of
from shrink import reduced_constants
from tensors import leaves

# Where the model is built, and where it runs. The meta device first; code that looks at values needs real ones, of the
# parameters alone or of everything.
PLACEMENTS = (("meta", "meta"), ("cpu", "meta"), ("cpu", "cpu"))


# Numbers of inputs and parameters up to which running the problem costs less than the imports that the meta device
# needs.
SMALL_ELEMENTS = 1 << 20


class TooLargeToBuild(Exception):
    """The memory that this process may have does not hold the problem."""


class Work(TorchDispatchMode):
    """Counts what the operators do: floating-point operations (those that PyTorch's own counter knows: products,
    convolutions, attention), elements read and written, bytes of the intermediate results that live at one time."""

    @classmethod
    def _should_skip_dynamo(cls):
        return False  # keeps torch._dynamo and its seconds of imports out

    def __init__(self, known):
        super().__init__()
        self.flops = 0
        self.elements = 0
        self.peak_bytes = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._live = {}
        self._live_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += int(formula(*args, **kwargs, out_val=result))
        if not func.is_view:
            made = leaves(result)
            self.elements += sum(tensor.numel() for tensor in leaves(list(args)) + made)
            for tensor in made:
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage):
        reference = StorageWeakRef(storage)
        if reference.cdata in self._known or reference.cdata in self._live:
            return
        self._live[reference.cdata] = (reference, storage.nbytes())
        self._live_bytes += storage.nbytes()
        if self._live_bytes > self.peak_bytes:
            # Only now is it of interest which of them are gone.
            self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
            self._live_bytes = sum(size for _, size in self._live.values())
            self.peak_bytes = max(self.peak_bytes, self._live_bytes)


def share_imports():
    """Imports what operators on the meta device import at their first use, for the forks of this process."""
    os.environ.setdefault("LOGNAME", "nobody")  # it asks for the user's name, and in a sandbox there is none
    import torch._dynamo  # noqa: F401


def _bytes(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _elements(tensors):
    return sum(tensor.numel() for tensor in tensors)


def _needs_at(path, overrides, build, run):
    with torch.device(build):
        problem = Problem(path, overrides)
        model = problem.construct(0)
    if build != run:
        model = model.to(run)
    with torch.device(run):
        inputs = list(problem.module.get_inputs())
        state = list(problem.state(model).values())
        work = Work(leaves(inputs) + state)
        with torch.no_grad(), work:
            outputs = outputs_of(model(*inputs))
    tensors = leaves(inputs)
    return {
        "states": len(state),
        "parameters": sum(tensor.numel() for tensor in model.parameters()),
        "state_bytes": _bytes(state),
        "state_elements": _elements(state),
        "input_bytes": _bytes(tensors),
        "input_elements": _elements(tensors),
        "output_bytes": _bytes(outputs),
        "output_elements": _elements(outputs),
        "intermediate_bytes": work.peak_bytes,
        "flops": work.flops,
        "elements": work.elements,
        "dtypes": sorted({str(t.dtype).removeprefix("torch.") for t in tensors + state + outputs}),
        "measured_on": run,
    }


def _ran_out_of_memory(failure):
    return isinstance(failure, MemoryError) or "allocate memory" in str(failure)


def _needs(path, overrides, placements):
    for build, run in placements:
        try:
            return _needs_at(path, overrides, build, run)
        except Exception as failure:  # whatever the problem's code does on a device without values
            last = failure
    if _ran_out_of_memory(last):
        raise TooLargeToBuild(str(last).splitlines()[0][:400]) from last
    raise last


def _is_small(path, overrides):
    """Told without an operator."""
    try:
        with torch.device("meta"):
            problem = Problem(path, overrides)
            tensors = leaves(list(problem.module.get_inputs())) + list(problem.state(problem.construct(0)).values())
    except Exception:  # whatever the problem's code does on a device without values
        return False
    return _elements(tensors) <= SMALL_ELEMENTS


def measure(path, overrides):
    """`judged`: the needs at the sizes at which candidates are judged, and `overrides`, which make those sizes; `full`:
    at the sizes of the file under the overrides asked for, null where only values could tell."""
    reduced = {} if overrides else reduced_constants(Problem(path, overrides).module)
    sizes = reduced or overrides
    judged = _needs(path, sizes, PLACEMENTS[2:] if _is_small(path, sizes) else PLACEMENTS)
    if not reduced:
        return {"full": judged, "judged": judged, "overrides": overrides}
    try:
        full = _needs(path, overrides, PLACEMENTS[:2])
    except Exception:  # it needs values, and the full size is not for this machine's memory
        full = None
    return {"full": full, "judged": judged, "overrides": reduced}
