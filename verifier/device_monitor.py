"""Watches what a candidate launches on a GPU. It stays in its place through all phases of a verification, so that
nothing about it tells a candidate which phase it is in."""

import torch
from triton.runtime import autotuner
from triton.runtime.jit import JITFunction

from kernel_monitor import Launch, _argument

DEFAULT_STREAM = 0
WATCH, COUNT, SUPPRESS = "watch", "count", "suppress"
LAUNCH_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg")


class DeviceKernelMonitor:
    """WATCH: every launch with its arguments, and the memory that it is given. COUNT: only which functions are launched, at
    next to no cost, for timed calls. SUPPRESS: kernels are compiled and not launched, to see what an answer owes to them."""

    def __init__(self, memory, report, path):
        self._memory = memory
        self._report = report
        self._path = path
        self.mode = WATCH
        self.launches = []
        self.counted = []
        self.num_failed = 0
        self.num_on_side_streams = 0
        self.depth = 0  # kernels run no tensor operations here
        self.call_id = 0
        self._tuning = 0

    def begin_call(self, call_id, shuffle_seed, record_accesses):
        self.launches = []
        self.num_failed = 0
        self.num_on_side_streams = 0
        self.call_id = call_id

    def is_candidates(self, function):
        return function.fn.__code__.co_filename == self._path

    def install(self):
        monitor, path = self, self._path
        run, bench = JITFunction.run, autotuner.Autotuner._bench

        def run_watched(self, *args, grid, warmup, **kwargs):
            if warmup or monitor._tuning:
                return run(self, *args, grid=grid, warmup=warmup, **kwargs)
            if monitor.mode is COUNT:
                if self.fn.__code__.co_filename == path:
                    monitor.counted.append(self.fn)
                return run(self, *args, grid=grid, warmup=False, **kwargs)
            if monitor.mode is SUPPRESS:
                return run(self, *args, grid=grid, warmup=True, **kwargs)
            return monitor._run(run, self, args, grid, kwargs)

        def bench_apart(self, *args, **kwargs):
            monitor._tuning += 1
            try:
                return bench(self, *args, **kwargs)
            finally:
                monitor._tuning -= 1

        run_watched.__name__, run_watched.__qualname__ = run.__name__, run.__qualname__
        bench_apart.__name__, bench_apart.__qualname__ = bench.__name__, bench.__qualname__
        JITFunction.run = run_watched
        autotuner.Autotuner._bench = bench_apart

    def _run(self, run, function, args, grid, kwargs):
        seen = []

        def evaluated(meta):
            value = grid(meta) if callable(grid) else grid
            value = tuple(value) if isinstance(value, (tuple, list)) else (value,)
            seen.append(tuple(int(size) for size in value))
            return value

        if not self.is_candidates(function):
            return run(function, *args, grid=grid, warmup=False, **kwargs)
        self.num_on_side_streams += torch.cuda.current_stream().cuda_stream != DEFAULT_STREAM
        names = function.arg_names
        values = {**dict(zip(names, args)), **{name: kwargs[name] for name in names if name in kwargs}}
        self._note_memory(function.fn.__qualname__, list(values.values()))
        try:
            result = run(function, *args, grid=evaluated, warmup=False, **kwargs)
        except BaseException:
            self.num_failed += 1
            raise
        constexprs = {parameter.name for parameter in function.params if parameter.is_constexpr}
        arguments = tuple(_argument(name, value, name in constexprs) for name, value in values.items())
        options = {name: kwargs[name] for name in LAUNCH_OPTIONS if kwargs.get(name) is not None}
        self.launches.append(Launch(function.fn, seen[-1] if seen else (), arguments, options))
        return result

    def _note_memory(self, name, values):
        tensors = [value for value in values if isinstance(value, torch.Tensor)]
        tensors += [value.base for value in values if isinstance(getattr(value, "base", None), torch.Tensor)]
        regions = []
        for tensor in tensors:
            region = self._memory.find(tensor)
            if region is None:
                if tensor.numel():
                    self._report("foreign_memory", f"{name} gets a tensor that no tensor operation made")
                region = self._memory.add(tensor)
            regions.append(region)
        from_input = any(region.from_input for region in regions)
        for region in regions:
            region.from_input = region.from_input or from_input
            region.kernel_call = self.call_id
