"""The process in which one candidate runs. It serves the judge's commands over descriptor 3 and shares the memory
of descriptor 4 with it. Whatever it reports is evidence, not truth: the judge compares the bytes of the outputs
itself."""

import ctypes
import hashlib
import mmap
import os
import random
import sys
import time
import traceback
import types

ARENA_FD = 4

import numpy as np  # noqa: E402
import torch  # noqa: E402
import triton  # noqa: E402

import interpreter_repairs  # noqa: E402
import seccomp_filter  # noqa: E402
from ahead_of_time import Compiler  # noqa: E402
from frames import Channel  # noqa: E402
from import_guard import ImportGuard  # noqa: E402
from kernel_monitor import KernelMonitor  # noqa: E402
from memory_map import MemoryMap  # noqa: E402
from namespace_walk import NamespaceWalk  # noqa: E402
from operator_monitor import OperatorMonitor  # noqa: E402
from static_facts import examine  # noqa: E402
from tensors import DTYPE_NAMES, blob_reader, decode, tensor_bytes, tensor_from_buffer  # noqa: E402

MAX_FINDINGS = 64
MAX_OPERATORS = 256
MAX_LAUNCHES = 512


def _nest(value):
    """Tensors and other leaves of what forward returned, in order. A container of the candidate's own class is
    read as its base class reads it: its methods would run after the call."""
    for container, items in ((list, list.__iter__), (tuple, tuple.__iter__), (dict, dict.values)):
        if issubclass(type(value), container):
            return [leaf for item in items(value) for leaf in _nest(item)]
    return [value]


class Worker:
    def __init__(self, channel, arena, hello):
        self._channel = channel
        self._arena = arena
        self._arena_address = ctypes.addressof(ctypes.c_char.from_buffer(arena))
        self._path = hello["candidate"]
        self._name = hello["module"]
        self._findings = []
        self._memory = MemoryMap()
        self._kernels = KernelMonitor(self._memory, self._report)
        self._operators = OperatorMonitor(self._memory, self._kernels, self._report)
        self._kernels.install()
        self._guard = ImportGuard(self._path, self._name, hello["trusted_roots"], self._report)
        self._compiler = Compiler()
        self._walk = NamespaceWalk(self._name, self._path)
        self._module = None
        self._own_names = set()
        self._instances = {}
        self._slots = {}
        self._kept = {}
        self._num_calls = 0
        # Bound now: the candidate may replace them later.
        self._contiguous = torch.Tensor.contiguous
        self._detach = torch.Tensor.detach
        self._exact_tensor = torch.Tensor
        self._memmove = ctypes.memmove

    def _report(self, kind, detail):
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append({"kind": kind, "detail": str(detail)[:300]})

    def _take_findings(self):
        taken, self._findings[:] = list(self._findings), []
        return taken

    def serve(self):
        while True:
            message, blob = self._channel.receive()
            command = message["command"]
            if command == "finish":
                self._channel.send({"done": True})
                return
            reply = getattr(self, "_do_" + command)(message, blob)
            reply["findings"] = self._take_findings()
            self._channel.send(*self._with_blob(reply))

    @staticmethod
    def _with_blob(reply):
        return reply, reply.pop("blob", b"")

    def _error(self, failure):
        frames = traceback.extract_tb(failure.__traceback__)
        own = [frame for frame in frames if frame.filename == self._path]
        cause = failure
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return {
            "class": type(failure).__name__,
            "text": str(failure)[:2000],
            "cause_class": type(cause).__name__,
            "line": own[-1].lineno if own else 0,
            "line_text": (own[-1].line or "")[:300] if own else "",
            "in_kernel": self._kernels.num_failed > 0,
        }

    def _do_examine(self, message, blob):
        with open(self._path, encoding="utf-8") as file:
            self._source = file.read()
        error, facts = examine(self._source)
        return {"syntax_error": error, "facts": facts}

    def _do_load(self, message, blob):
        module = types.ModuleType(self._name)
        module.__file__ = self._path
        module.__builtins__ = self._guard.candidate_builtins()
        sys.modules[self._name] = module
        try:
            code = compile(self._source, self._path, "exec", dont_inherit=True)
            with torch.no_grad(), torch.enable_grad(), self._operators:
                exec(code, module.__dict__)
        except BaseException as failure:  # SystemExit included: it costs the candidate its verdict
            return {"error": self._error(failure)}
        self._module = module
        self._own_names = set(vars(module))
        if not isinstance(vars(module).get("ModelNew"), type):
            return {"error": {"class": "NameError", "text": "the module defines no class ModelNew", "missing_model": True}}
        return {"walk": self._walk.findings()}

    def _do_construct(self, message, blob):
        init = decode(message["init"], blob_reader(blob))
        seed = message["seed"]
        torch.manual_seed(seed)
        np.random.seed(seed % (1 << 32))
        random.seed(seed)
        try:
            with self._operators:
                instance = self._place(self._module.ModelNew(*init))
            if message["evaluate"]:
                instance.eval()
        except BaseException as failure:
            return {"error": self._error(failure)}
        self._instances[message["instance"]] = instance
        self._slots.clear()
        return {"state": self._describe_state(instance)}

    def _place(self, instance):
        return instance

    def _wait(self):
        """Until everything that was launched has ended."""

    def _digest(self, tensor):
        return hashlib.sha256(tensor_bytes(tensor.detach().contiguous())).hexdigest()

    def _state(self, instance):
        if not isinstance(instance, torch.nn.Module):
            return {}
        state = dict(instance.named_parameters(remove_duplicate=False))
        state.update(instance.named_buffers(remove_duplicate=False))
        return state

    def _describe_state(self, instance):
        described = []
        for key, tensor in self._state(instance).items():
            if tensor.dtype in DTYPE_NAMES and type(tensor) in (torch.Tensor, torch.nn.Parameter):
                described.append({"key": key[:200], "dtype": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape),
                                  "digest": self._digest(tensor)})
        return described[:4096]

    def _do_set_state(self, message, blob):
        state = self._state(self._instances[message["instance"]])
        read = blob_reader(blob)
        with torch.no_grad():
            for leaf in message["tensors"]:
                value = read(leaf)
                tensor = state[leaf["key"]]
                tensor.copy_(value.reshape(tensor.shape))
        self._memory.resum_all()
        return {}

    def _make_input(self, leaf):
        return tensor_from_buffer(self._arena, leaf, leaf["offset"])

    def _inputs(self, message):
        """The arguments of a call. A slot's tensors are made once: the same objects at the same addresses serve
        every call that uses the slot."""
        slot = message["slot"]
        if slot not in self._slots:
            leaves = []

            def make(leaf):
                tensor = self._make_input(leaf)
                leaves.append(tensor)
                return tensor

            self._slots[slot] = (decode(message["inputs"], make), leaves)
        arguments, leaves = self._slots[slot]
        for tensor in leaves:
            self._memory.add(tensor).from_input = True
        return arguments, leaves

    def _do_call(self, message, blob):
        self._num_calls += 1
        instance = self._instances[message["instance"]]
        self._operators.begin_call()
        arguments, leaves = self._inputs(message)
        self._kernels.begin_call(self._num_calls, message["shuffle"], message["record_accesses"])
        profile = torch.autograd.profiler.profile() if message["profile"] else None
        started = time.perf_counter()
        error, result = None, None
        try:
            with torch.no_grad():
                if profile is not None:
                    profile.__enter__()
                try:
                    with self._operators:
                        result = instance(*arguments)
                    self._wait()
                finally:
                    if profile is not None:
                        profile.__exit__(None, None, None)
        except BaseException as failure:
            error = self._error(failure)
        reply = {
            "seconds": time.perf_counter() - started,
            "launches": [launch.describe() for launch in self._kernels.launches[:MAX_LAUNCHES]],
            "num_launches": len(self._kernels.launches),
            "num_failed_launches": self._kernels.num_failed,
            "operators": self._describe_operators(),
            "host_data": f"{self._operators.host_data:x}",
            "operator_trace": f"{self._operators.trace:x}",
            "hidden_operators": self._hidden_operators(profile),
        }
        if error is not None:
            reply["error"] = error
            return reply
        reply["outputs"] = self._deliver(_nest(result), message["output_offset"], message["output_bytes"], leaves)
        if message["keep"]:
            self._kept[message["keep"]] = [leaf for leaf in _nest(result) if type(leaf) is self._exact_tensor]
        return reply

    def _describe_operators(self):
        return [
            [name, from_input, inside, count]
            for (name, from_input, inside), count in list(self._operators.operators.items())[:MAX_OPERATORS]
        ]

    def _hidden_operators(self, profile):
        if profile is None:
            return []
        seen = {name for name, _, _ in self._operators.operators}
        own = {"aten::empty", "aten::set_", "aten::fill_"}  # what the monitor itself does
        hidden = set()
        for event in profile.function_events or []:
            name = event.name
            if not name.startswith("aten::") or name in seen or name in own:
                continue
            if not self._is_composite(name):
                hidden.add(name)
        return sorted(hidden)[:32]

    @staticmethod
    def _is_composite(name):
        """Whether the operator is made of others, which are seen themselves."""
        packet = getattr(torch.ops.aten, name.removeprefix("aten::"), None)
        for overload in packet.overloads() if packet is not None else []:
            full_name = f"{name}.{overload}".removesuffix(".default")
            try:
                if torch._C._dispatch_has_kernel_for_dispatch_key(full_name, "CompositeImplicitAutograd"):
                    return True
            except RuntimeError:
                continue  # an overload of TorchScript's alone
        return False

    def _deliver(self, outputs, offset, room, inputs):
        described = []
        spans = [(t.data_ptr(), t.data_ptr() + max(1, t.numel()) * t.element_size()) for t in inputs if t.numel()]
        for value in outputs:
            if type(value) is not self._exact_tensor:
                # Asked of the class, not of the object: an attribute of the object may compute.
                is_tensor = issubclass(type(value), self._exact_tensor) or type(value).__module__ == self._name
                described.append({"not_a_tensor": type(value).__name__[:100], "is_subclass": is_tensor,
                                  "is_parameter": type(value) is torch.nn.Parameter})
                continue
            described.append(self._deliver_tensor(value, offset, room, spans))
            offset += described[-1]["bytes"]
            room -= described[-1]["bytes"]
        return described

    def _deliver_tensor(self, tensor, offset, room, spans):
        tensor = self._detach(tensor)
        entry = {
            "dtype": DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype)),
            "shape": list(tensor.shape),
            "device": tensor.device.type,
            "contiguous": tensor.is_contiguous(),
            "bytes": 0,
        }
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
            return entry
        region = self._memory.find(tensor)
        entry["known_memory"] = region is not None or tensor.numel() == 0
        entry["from_kernel"] = region is not None and region.kernel_call == self._num_calls
        entry["ever_from_kernel"] = region is not None and region.kernel_call >= 0
        entry["changed_unseen"] = region is not None and region.changed_unseen()
        if region is not None:
            end = region.address + region.size
            entry["aliases_input"] = any(start < end and region.address < stop for start, stop in spans)
        plain = self._contiguous(tensor.resolve_conj().resolve_neg())
        size = plain.numel() * plain.element_size()
        entry["bytes"] = size
        if size <= room:
            self._memmove(self._arena_address + offset, plain.data_ptr(), size)
            entry["delivered"] = True
        return entry

    def _do_copy_kept(self, message, blob):
        return {"outputs": self._deliver(self._kept[message["keep"]], message["output_offset"], message["output_bytes"], [])}

    def _do_walk(self, message, blob):
        return {"walk": self._walk.findings()}

    def _do_compile(self, message, blob):
        self._compiler.leave_interpreter(self._module, self._own_names)
        compiled, blobs = [], []
        for launch in list(self._kernels.functions.values())[: message["max_kernels"]]:
            result = self._compiler.compile(launch)
            text = result.pop("ptx", "").encode()
            compiled.append({"kernel": launch.function.__qualname__[:200], "bytes": len(text), **result})
            blobs.append(text)
        return {"kernels": compiled, "num_kernels": len(self._kernels.functions), "blob": b"".join(blobs)}


def main():
    channel = Channel(seccomp_filter.CHANNEL_FD)
    torch.set_num_threads(1)
    # The profiler's machinery is set up before the filter, since it starts a thread.
    with torch.autograd.profiler.profile():
        torch.zeros(1)
    # Up to here nothing depends on the candidate: the process may wait for one.
    hello, _ = channel.receive()
    interpreter_repairs.apply(emulate_tf32=hello["emulate_tf32"])
    arena = mmap.mmap(ARENA_FD, hello["arena_bytes"])
    worker = Worker(channel, arena, hello)
    filtered = seccomp_filter.install() and not seccomp_filter.unfiltered_threads()
    for name in list(sys.modules):
        if getattr(sys.modules[name], "__file__", None) and os.path.dirname(sys.modules[name].__file__) == os.path.dirname(__file__):
            del sys.modules[name]
    sys.modules["__main__"] = types.ModuleType("__main__")
    worker._guard.install_audit_hook()
    channel.send({"system_call_filter": filtered,
                  "versions": {"torch": torch.__version__, "triton": triton.__version__, "numpy": np.__version__,
                               "python": sys.version.split()[0]}})
    worker.serve()


if __name__ == "__main__":
    main()
