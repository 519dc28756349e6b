"""The process in which one candidate runs on a GPU. As in candidate_worker.py, whatever it reports is evidence and not
truth: its outputs are compared in the reference's process, and the judge has the clock."""

import os
import sys
import tempfile

# Before Triton reads them: a cache that nobody else has written to.
os.makedirs("/tmp/t", exist_ok=True)
os.environ["TMPDIR"] = os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp(dir="/tmp/t")
tempfile.tempdir = os.environ["TMPDIR"]

import numpy as np  # noqa: E402
import torch  # noqa: E402
import triton  # noqa: E402

import candidate_worker  # noqa: E402
import seccomp_filter  # noqa: E402
import toolsmith  # noqa: E402
from candidate_worker import MAX_LAUNCHES, _nest  # noqa: E402
from device_memory import Gpu, content_digest  # noqa: E402
from device_monitor import COUNT, SUPPRESS, WATCH, DeviceKernelMonitor  # noqa: E402
from frames import Channel  # noqa: E402
from import_guard import ImportGuard  # noqa: E402
from memory_map import MemoryMap  # noqa: E402
from namespace_walk import NamespaceWalk  # noqa: E402
from operator_monitor import OperatorMonitor  # noqa: E402
from tensors import DTYPE_NAMES, decode  # noqa: E402

OUTPUT_STEP = 256


def _round_up(value, step):
    return -(-value // step) * step


class DeviceWorker(candidate_worker.Worker):
    def __init__(self, channel, gpu, area, hello):
        self._channel = channel
        self._gpu = gpu
        self._area = area
        self._path = hello["candidate"]
        self._name = hello["module"]
        self._findings = []
        self._memory = MemoryMap(reads_content=False)
        self._kernels = DeviceKernelMonitor(self._memory, self._report, self._path)
        self._operators = OperatorMonitor(self._memory, self._kernels, self._report)
        self._kernels.install()
        self._guard = ImportGuard(self._path, self._name, hello["trusted_roots"], self._report)
        self._walk = NamespaceWalk(self._name, self._path)
        self._module = None
        self._own_names = set()
        self._instances = {}
        self._slots = {}
        self._kept = {}
        self._num_calls = 0
        self._last = None
        self._last_leaves = []
        self._timed = gpu.timed
        self._contiguous = torch.Tensor.contiguous
        self._detach = torch.Tensor.detach
        self._exact_tensor = torch.Tensor
        self._no_grad = torch.no_grad

    def _wait(self):
        self._gpu.synchronize()

    def _place(self, instance):
        return instance.to(self._gpu.device) if isinstance(instance, torch.nn.Module) else instance

    def _digest(self, tensor):
        return content_digest(tensor)

    def _do_set_state(self, message, blob):
        state = self._state(self._instances[message["instance"]])
        with torch.no_grad():
            for leaf in message["tensors"]:
                tensor = state[leaf["key"]]
                tensor.copy_(self._area.tensor(leaf).reshape(tensor.shape))
        self._wait()
        return {}

    def _make_input(self, leaf):
        return self._area.tensor(leaf)

    def _do_call(self, message, blob):
        reply = super()._do_call(message, blob)
        reply["num_on_side_streams"] = self._kernels.num_on_side_streams
        return reply

    # Delivery.

    def _deliver(self, outputs, offset, room, inputs):
        described = super()._deliver(outputs, offset, room, inputs)
        self._wait()
        return described

    def _deliver_tensor(self, tensor, offset, room, spans):
        tensor = self._detach(tensor)
        entry = {"dtype": DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype)), "shape": list(tensor.shape),
                 "device": tensor.device.type, "contiguous": tensor.is_contiguous(), "bytes": 0}
        if tensor.device != self._gpu.device or tensor.layout is not torch.strided:
            return entry
        region = self._memory.find(tensor)
        entry["known_memory"] = region is not None or tensor.numel() == 0
        entry["from_kernel"] = region is not None and region.kernel_call == self._num_calls
        entry["ever_from_kernel"] = region is not None and region.kernel_call >= 0
        if region is not None:
            end = region.address + region.size
            entry["aliases_input"] = any(start < end and region.address < stop for start, stop in spans)
        plain = self._contiguous(tensor.resolve_conj().resolve_neg())
        size = plain.numel() * plain.element_size()
        entry["bytes"] = _round_up(size, OUTPUT_STEP)
        if size <= room:
            if size:
                self._area.bytes(offset, size).copy_(plain.reshape(-1).view(torch.uint8))
            entry["delivered"] = True
        return entry

    # Timing.

    def _do_timed(self, message, blob):
        """One call, as the judge times it: nothing is watched but which kernels are launched."""
        instance = self._instances[message["instance"]]
        arguments, leaves = self._slots.get(message["slot"]) or self._inputs(message)
        self._kernels.mode = COUNT
        self._kernels.counted.clear()
        self._last = None
        profile = torch.autograd.profiler.profile() if message["profile"] else None
        times, error = {}, None
        try:
            with self._no_grad():
                if profile is not None:
                    profile.__enter__()
                try:
                    self._last, times = self._timed(instance, arguments)
                finally:
                    if profile is not None:
                        profile.__exit__(None, None, None)
        except BaseException as failure:
            error = self._error(failure)
        self._kernels.mode = WATCH
        self._last_leaves = leaves
        reply = {**times, "launches": [function.__qualname__[:200] for function in self._kernels.counted[:MAX_LAUNCHES]]}
        if error is not None:
            reply["error"] = error
        if profile is not None:
            self._operators.operators = {}
            reply["hidden_operators"] = self._hidden_operators(profile)
        return reply

    def _do_idle(self, message, blob):
        """A timed call of nothing: what the way to this process takes, asked before the candidate is loaded."""
        return self._timed(tuple, ())[1]

    def _do_deliver(self, message, blob):
        """The output of the timed call before."""
        return {"outputs": self._deliver(_nest(self._last), message["output_offset"], message["output_bytes"], self._last_leaves)}

    def _do_release(self, message, blob):
        self._last = None
        self._kept.clear()
        torch.cuda.empty_cache()
        return {}

    def _do_suppressed(self, message, blob):
        """A call without its kernels."""
        self._kernels.mode = SUPPRESS
        try:
            return self._do_call(message, blob)
        finally:
            self._kernels.mode = WATCH


def main():
    channel = Channel(seccomp_filter.CHANNEL_FD)
    torch.set_num_threads(1)
    with torch.autograd.profiler.profile():
        torch.zeros(1)
    toolsmith.start()
    # Up to here nothing depends on the candidate, and nothing has used the GPU: the process may wait for one.
    hello, _ = channel.receive()
    gpu = Gpu()
    triton.runtime.driver.active.get_current_target()
    area = gpu.open(hello["area"]["handle"], hello["area"]["bytes"])
    gpu.limit_memory(hello["memory_share"])
    gpu.timed(torch.zeros, (1,))
    worker = DeviceWorker(channel, gpu, area, hello)
    filtered = seccomp_filter.install(seccomp_filter.GPU) and not seccomp_filter.unfiltered_threads()
    for name in list(sys.modules):
        if getattr(sys.modules[name], "__file__", None) and os.path.dirname(sys.modules[name].__file__) == os.path.dirname(__file__):
            del sys.modules[name]
    sys.modules["__main__"] = type(sys)("__main__")
    worker._guard.install_audit_hook()
    channel.send({"system_call_filter": filtered,
                  "versions": {"torch": torch.__version__, "triton": triton.__version__, "numpy": np.__version__,
                               "python": sys.version.split()[0], "cuda": torch.version.cuda,
                               "gpu": gpu.name}})
    worker.serve()


if __name__ == "__main__":
    main()
