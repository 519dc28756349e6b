"""Runs the launches of Triton's interpreter under observation: which kernels with which arguments, in a program
order that the judge chose, every access inside known memory, and no race between programs."""

import inspect
import random
import zlib

import numpy as np
import torch
import triton
from triton.runtime import autotuner, interpreter

from race_check import ATOMIC, READ, WRITE, AccessLog

LAUNCH_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg")


class BadAccess(Exception):
    """A kernel left the memory that it was given."""


class Launch:
    """One launch, in the form in which two launches are compared and a kernel is compiled."""

    def __init__(self, function, grid, arguments, options):
        self.function = function
        self.grid = grid
        self.arguments = arguments  # (name, type, value): tensors have value None
        self.options = options

    def describe(self):
        text = repr((self.function.__qualname__, self.function.__code__.co_firstlineno, self.grid, self.arguments,
                     sorted(self.options.items())))
        return {
            "kernel": self.function.__qualname__[:200],
            "line": self.function.__code__.co_firstlineno,
            "grid": [int(size) for size in self.grid],
            "digest": f"{zlib.crc32(text.encode()):08x}",
        }


def _argument(name, value, is_constexpr):
    if is_constexpr:
        value = value.value if isinstance(value, triton.language.constexpr) else value
        return (name, "constexpr", value if isinstance(value, (bool, int, float, str, type(None))) else repr(value))
    if value is None:
        return (name, "constexpr", None)
    if isinstance(value, triton.language.constexpr):
        return (name, "constexpr", value.value)
    kind = triton.runtime.jit.mangle_type(value) if not isinstance(value, tuple) else "tuple"
    if hasattr(value, "data_ptr"):
        return (name, kind, None)
    return (name, kind, repr(value))


class KernelMonitor:
    """Installed once; the worker sets begin_call() before each call and reads the lists after it."""

    def __init__(self, memory, report):
        self._memory = memory
        self._report = report  # report(kind, detail)
        self.launches = []
        self.functions = {}  # distinct launches for the compiler: digest of kernel and types -> Launch
        self.num_failed = 0
        self.depth = 0
        self.call_id = 0
        self._log = None
        self._record_accesses = False
        self._shuffle_seed = 0
        self._program = 0
        self._scopes = []
        self._patched = set()

    def begin_call(self, call_id, shuffle_seed, record_accesses):
        self.launches = []
        self.num_failed = 0
        self.call_id = call_id
        self._shuffle_seed = shuffle_seed
        self._record_accesses = record_accesses

    def install(self):
        monitor = self
        original_call = interpreter.InterpretedFunction.__call__

        def run(function, *args, grid, warmup, **kwargs):
            if not warmup:
                monitor._run(function, args, grid, kwargs)

        def call(function, *args, **kwargs):
            if monitor.depth == 0:
                return original_call(function, *args, **kwargs)
            monitor._patch_language(function.fn)
            return function.rewrite()(*args, **kwargs)

        # A kernel looks to the candidate as it does where there is a GPU.
        interpreter.InterpretedFunction.__name__ = "JITFunction"
        interpreter.InterpretedFunction.__qualname__ = "JITFunction"
        interpreter.InterpretedFunction.__module__ = "triton.runtime.jit"
        interpreter.InterpretedFunction.run = run
        interpreter.InterpretedFunction.__call__ = call
        self._install_memory_hooks(interpreter.InterpreterBuilder)

    def _patch_language(self, function):
        # The interpreter replaces the language's functions once for each device function and never puts them
        # back; here once in a launch for each set of modules, and back at the launch's end.
        key = frozenset(
            id(value) for value in function.__globals__.values() if value is triton.language or value is triton.language.core
        )
        if key not in self._patched:
            self._patched.add(key)
            self._scopes.append(interpreter._patch_lang(function))

    def _restore_language(self):
        while self._scopes:
            self._scopes.pop().restore()
        self._patched.clear()

    def _run(self, function, args, grid, kwargs):
        options = {name: kwargs[name] for name in LAUNCH_OPTIONS if kwargs.get(name) is not None}
        names = function.arg_names
        kwargs = {name: value for name, value in kwargs.items() if name in names}
        bound = inspect.getcallargs(function.fn, *args, **kwargs)
        annotations = {n: triton.runtime.jit._normalize_ty(t) for n, t in function.fn.__annotations__.items()}
        constexprs = {name for name in names if annotations.get(name) == "constexpr"}
        arguments = tuple(_argument(name, bound[name], name in constexprs) for name in names)
        values = {
            name: value if name in constexprs else interpreter._implicit_cvt(value) for name, value in bound.items()
        }
        grid = grid(values) if callable(grid) else grid
        grid = tuple(int(size) for size in (grid if isinstance(grid, (tuple, list)) else (grid,)))
        launch = Launch(function.fn, grid, arguments, options)
        self.functions.setdefault(repr((id(function.fn), arguments, sorted(options.items()))), launch)
        self._touched = set()
        self._written = set()
        tensors = [value for value in bound.values() if isinstance(value, torch.Tensor)]
        tensors += [v.base for v in bound.values() if isinstance(getattr(v, "base", None), torch.Tensor)]
        self._check_arguments(launch, tensors)
        self.launches.append(launch)
        try:
            self._execute(function, grid, values)
        except BaseException:
            self.num_failed += 1
            raise
        finally:
            self._after()

    def _check_arguments(self, launch, tensors):
        name = launch.function.__qualname__
        for tensor in tensors:
            region = self._memory.find(tensor)
            if region is None:
                if tensor.numel():
                    self._report("foreign_memory", f"{name} gets a tensor that no tensor operation made")
                self._touched.add(self._memory.add(tensor))
            else:
                self._touch(region, name)

    def _touch(self, region, name):
        """Before a launch's first access to a region: it holds what was last known of it."""
        if region in self._touched:
            return
        self._touched.add(region)
        if region.changed_unseen():
            self._report("unseen_write", f"memory given to {name} was changed by no tensor operation or kernel")
            region.resum()

    def _after(self):
        # Not of the arguments alone: a kernel reaches other memory by an address or by a difference of two.
        from_input = any(region.from_input for region in self._touched)
        for region in self._touched:
            region.from_input = from_input
            region.resum()
        for region in self._written:
            region.kernel_call = self.call_id

    def _execute(self, function, grid, values):
        rewritten = function.rewrite()
        self._memory.prepare_lookup()
        self._log = AccessLog() if self._record_accesses else None
        x, y, z = grid + (1,) * (3 - len(grid))
        programs = [(i, j, k) for i in range(x) for j in range(y) for k in range(z)]
        if self._shuffle_seed:
            random.Random(self._shuffle_seed).shuffle(programs)
        builder = interpreter.interpreter_builder
        builder.set_grid_dim(x, y, z)
        self.depth += 1
        try:
            self._patch_language(function.fn)
            for i, j, k in programs:
                self._program = (i * y + j) * z + k
                builder.set_grid_idx(i, j, k)
                rewritten(**values)
        finally:
            self.depth -= 1
            if self.depth == 0:
                self._restore_language()
        race = self._log.find_race() if self._log else None
        self._log = None
        if race:
            self._report("race", f"{function.fn.__qualname__}: {race}")

    def _access(self, kind, pointers, mask, size, values=None):
        selected = np.broadcast_to(mask, pointers.shape).astype(bool)
        addresses = pointers[selected]
        if addresses.size == 0:
            return
        index = self._memory.locate(addresses, size)
        if (index < 0).any():
            what = "reads" if kind == READ else "writes"
            detail = f"program {self._program} {what} {int((index < 0).sum())} elements outside of every tensor"
            self._report("out_of_bounds", detail)
            raise BadAccess(detail)
        for number in np.unique(index):
            region = self._memory.region_at(number)
            self._touch(region, "a kernel")
            offsets = addresses[index == number] - np.uint64(region.address) if region.written is not None else None
            if kind != READ:
                self._written.add(region)
            if offsets is None:
                continue
            if kind != WRITE and not region.written[offsets].all():
                self._report("uninitialised_read", f"program {self._program} reads memory that nothing has written")
            if kind != READ:
                for byte in range(size):
                    region.written[offsets + np.uint64(byte)] = 1
        if self._log is not None:
            if values is not None:
                values = np.broadcast_to(values, pointers.shape)[selected]
            self._log.add(kind, self._program, addresses, size, values)

    def _install_memory_hooks(self, builder):
        monitor = self
        load, store = builder.create_masked_load, builder.create_masked_store
        cas, rmw = builder.create_atomic_cas, builder.create_atomic_rmw

        def element_size(pointer):
            return max(1, pointer.get_element_ty().primitive_bitwidth // 8)

        def masked_load(self, ptrs, mask, other, *rest):
            monitor._access(READ, ptrs.data, mask.data, element_size(ptrs))
            return load(self, ptrs, mask, other, *rest)

        def masked_store(self, ptrs, value, mask, *rest):
            monitor._access(WRITE, ptrs.data, mask.data, element_size(ptrs), value.data)
            return store(self, ptrs, value, mask, *rest)

        def atomic_cas(self, ptr, *rest):
            monitor._access(ATOMIC, ptr.data, np.ones(ptr.data.shape, dtype=bool), element_size(ptr))
            return cas(self, ptr, *rest)

        def atomic_rmw(self, op, ptr, val, mask, sem, scope):
            monitor._access(ATOMIC, ptr.data, mask.data, element_size(ptr))
            return rmw(self, op, ptr, val, mask, sem, scope)

        builder.create_masked_load, builder.create_masked_store = masked_load, masked_store
        builder.create_atomic_cas, builder.create_atomic_rmw = atomic_cas, atomic_rmw
