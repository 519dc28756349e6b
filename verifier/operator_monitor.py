"""Sees every tensor operation that PyTorch's dispatcher is asked for, and keeps the memory map true to them."""

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from memory_map import checksum

UNWRITTEN = {
    "aten::empty",
    "aten::empty_like",
    "aten::empty_strided",
    "aten::empty_permuted",
    "aten::new_empty",
    "aten::new_empty_strided",
}
HOST_DATA = {"aten::lift_fresh", "aten::lift_fresh_copy", "aten::lift"}
_HASH = hash
POISON = 0xFF  # NaN for every float, -1 for integers


def _tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []


def _content(tensor):
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    storage = tensor.untyped_storage()
    return checksum(storage.data_ptr(), storage.nbytes())


class OperatorMonitor(TorchDispatchMode):
    """Pushed around everything that the candidate does."""

    @classmethod
    def _should_skip_dynamo(cls):
        return False  # keeps torch._dynamo (seconds of imports, in the middle of a candidate's call) out

    def __init__(self, memory, kernels, report):
        super().__init__()
        self._memory = memory
        self._kernels = kernels
        self._report = report
        self.operators = {}  # (name, on data of the inputs, inside a launch) -> count
        self.host_data = 0  # running sum over tensors made from Python values, and Python numbers given to operators
        self.trace = 0  # running sum over the operators: which pieces of memory, sizes, places

    def begin_call(self):
        self.operators = {}
        self.host_data = 0
        self.trace = 0
        self._memory.begin_call()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.name().split(".")[0]
        inputs = _tensors(list(args) + list(kwargs.values()))
        from_input, kernel_call = self._inspect_inputs(name, inputs)
        if self._kernels.depth == 0:  # a kernel's programs come in another order each time
            self._note_arguments(name, list(args) + list(kwargs.values()))
        result = func(*args, **kwargs)
        key = (name, from_input, self._kernels.depth > 0)
        self.operators[key] = self.operators.get(key, 0) + 1
        written = self._written_arguments(func, args, kwargs)
        for tensor in _tensors(result if isinstance(result, (list, tuple)) else [result]) + written:
            self._note_output(name, tensor, inputs, written, from_input, kernel_call)
        return result

    def _note_arguments(self, name, arguments):
        """A value that reached Python (by numpy, by tolist) can come back as a number, as the place of a slice or as
        the choice of a tensor: in all of these, calls of one shape are alike."""
        for value in arguments:
            if isinstance(value, (list, tuple)):
                self._note_arguments(name, value)
            elif isinstance(value, torch.Tensor):
                region = self._memory.find(value)
                if name in HOST_DATA:
                    self.host_data = _HASH((self.host_data, _content(value)))
                place = (region.name, value.storage_offset(), value.dtype) if region is not None else None
                self.trace = _HASH((self.trace, name, place))
            elif isinstance(value, (bool, int)):
                self.trace = _HASH((self.trace, name, value))
            elif isinstance(value, (float, complex)):
                self.host_data = _HASH((self.host_data, name, repr(value)))

    def _inspect_inputs(self, name, inputs):
        from_input, kernel_call = False, -1
        for tensor in inputs:
            region = self._memory.find(tensor)
            if region is None:
                if tensor.numel() and name not in HOST_DATA:
                    self._report("foreign_memory", f"{name} gets a tensor that no tensor operation made")
                self._memory.add(tensor)
                continue
            if region.changed_unseen():
                self._report("unseen_write", f"memory given to {name} was changed by no tensor operation or kernel")
                region.resum()
            from_input = from_input or region.from_input
            kernel_call = max(kernel_call, region.kernel_call)
        return from_input, kernel_call

    @staticmethod
    def _written_arguments(func, args, kwargs):
        written = []
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[position] if position < len(args) else kwargs.get(argument.name)
                written += _tensors([value])
        return written

    def _note_output(self, name, tensor, inputs, written, from_input, kernel_call):
        shares = any(
            tensor.untyped_storage().data_ptr() == other.untyped_storage().data_ptr() for other in inputs
        )
        is_written = any(tensor is other for other in written)
        region = self._memory.find(tensor) if shares or is_written else None
        if region is None:
            region = self._memory.add(tensor)
            if name in UNWRITTEN and region.size:
                self._poison(tensor, region)
        elif is_written:
            self._memory.mark_tensor(region, tensor)
        else:
            return  # a view
        region.from_input = region.from_input or from_input
        region.kernel_call = max(region.kernel_call if is_written else -1, kernel_call)
        region.resum()

    @staticmethod
    def _poison(tensor, region):
        if tensor.device.type == "meta":
            return
        storage = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
        storage.fill_(POISON)
        if region.reads_content:
            region.written = np.zeros(region.size, dtype=np.uint8)
