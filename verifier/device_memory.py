"""One GPU as the verifier's processes use it: memory that two processes share, events, a wait for everything. Bound to
the driver's own functions when it is opened, which is before a candidate is loaded."""

import ctypes
import hashlib

import torch

from tensors import DTYPES

GRANULE = 1 << 21  # the driver hands memory out in pieces of this size: nothing else lies in the same piece
HANDLE_BYTES = 64
OPEN_LAZY_PEER_ACCESS = 1
FLUSH_BYTES = 1 << 28  # several times what a cache of any card holds
MULTIPLIER, MODULUS = 2654435761, 4294967291


class _Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_ubyte * HANDLE_BYTES)]


class _Memory:
    """What torch.as_tensor reads a piece of the GPU's memory from."""

    def __init__(self, address, size):
        self.__cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3}


class Area:
    """An allocation of the driver's. Each tensor made over a part of it has a storage of its own, of that part."""

    def __init__(self, address, size, device):
        self._address = address
        self._device = device
        self.size = size

    def bytes(self, offset, size):
        if size == 0:
            return torch.empty(0, dtype=torch.uint8, device=self._device)
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ValueError("beyond the end of the shared memory")
        return torch.as_tensor(_Memory(self._address + offset, size), device=self._device)

    def typed(self, offset, size, dtype):
        return self.bytes(offset, size).view(dtype)

    def tensor(self, leaf):
        """The tensor that a leaf of a tree of arguments describes."""
        dtype = DTYPES[leaf["tensor"]]
        if leaf["bytes"] == 0:
            return torch.empty(leaf["shape"], dtype=dtype, device=self._device)
        return torch.as_strided(self.typed(leaf["offset"], leaf["bytes"], dtype), leaf["shape"], leaf["strides"])


class DeviceError(Exception):
    """The driver refused something that the verifier itself asked for."""


class Gpu:
    """The first GPU that this process sees."""

    def __init__(self):
        self.device = torch.device("cuda", 0)
        torch.zeros(1, device=self.device)  # makes the context that the driver's functions work in
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._driver.cuMemAlloc_v2.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._driver.cuMemsetD8Async.argtypes = [ctypes.c_uint64, ctypes.c_ubyte, ctypes.c_size_t, ctypes.c_void_p]
        self._driver.cuIpcGetMemHandle.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        self._driver.cuIpcOpenMemHandle_v2.argtypes = [ctypes.c_void_p, _Handle, ctypes.c_uint]
        self._synchronize = self._driver.cuCtxSynchronize
        self._record = self._driver.cuEventRecord
        self._elapsed = self._driver.cuEventElapsedTime
        self._start, self._end, self._settled = self._new_event(), self._new_event(), self._new_event()
        self._flushed = ctypes.c_uint64()
        self._check("cuMemAlloc", self._driver.cuMemAlloc_v2(ctypes.byref(self._flushed), FLUSH_BYTES))
        self._fill = self._driver.cuMemsetD8Async
        properties = torch.cuda.get_device_properties(self.device)
        self.name = properties.name
        self.memory_bytes = properties.total_memory
        self.l2_bytes = properties.L2_cache_size

    def _check(self, what, code):
        if code != 0:
            name = ctypes.c_char_p()
            self._driver.cuGetErrorName(code, ctypes.byref(name))
            raise DeviceError(f"{what}: {(name.value or b'?').decode()}")

    def _new_event(self):
        event = ctypes.c_void_p()
        self._check("cuEventCreate", self._driver.cuEventCreate(ctypes.byref(event), 0))
        return event

    def release(self):
        """Gives memory that PyTorch keeps for later back to the card."""
        torch.cuda.empty_cache()

    def free_share(self):
        free, total = torch.cuda.mem_get_info(self.device)
        return free / total

    def limit_memory(self, share):
        """The share of the card's memory beyond which PyTorch refuses this process more."""
        torch.cuda.set_per_process_memory_fraction(share, self.device)

    def allocate(self, size):
        """(an area, the handle under which another process opens them). An allocation of its own: a handle
        gives access to all of the allocation that it is of."""
        address = ctypes.c_uint64()
        size = -(-size // GRANULE) * GRANULE
        code = self._driver.cuMemAlloc_v2(ctypes.byref(address), size)
        if code == 2:  # CUDA_ERROR_OUT_OF_MEMORY
            raise torch.OutOfMemoryError(f"no {size} bytes of the GPU's memory are free")
        self._check("cuMemAlloc", code)
        handle = _Handle()
        self._check("cuIpcGetMemHandle", self._driver.cuIpcGetMemHandle(ctypes.byref(handle), address))
        return Area(address.value, size, self.device), bytes(handle.bytes).hex()

    def open(self, handle, size):
        """The area that another process allocated."""
        address = ctypes.c_uint64()
        given = _Handle((ctypes.c_ubyte * HANDLE_BYTES)(*bytes.fromhex(handle)))
        self._check("cuIpcOpenMemHandle",
                    self._driver.cuIpcOpenMemHandle_v2(ctypes.byref(address), given, OPEN_LAZY_PEER_ACCESS))
        return Area(address.value, size, self.device)

    def synchronize(self):
        """Waits for all work of this process on all streams. RuntimeError where some of it failed."""
        code = self._synchronize()
        if code != 0:
            raise RuntimeError(self._error_text(code))

    def _error_text(self, code):
        name, text = ctypes.c_char_p(), ctypes.c_char_p()
        self._driver.cuGetErrorName(code, ctypes.byref(name))
        self._driver.cuGetErrorString(code, ctypes.byref(text))
        return f"CUDA error: {(text.value or b'?').decode()} ({(name.value or b'?').decode()})"

    def timed(self, function, arguments):
        """(result, times), returned when everything has ended: event_ms by events on the default stream, settled_ms until
        everything on all streams had ended. The GPU is kept busy with the cache's flush until the call's first kernel has
        reached it: as in KernelBench's evaluator, the way of a launch is not part of the time."""
        self.flush_cache()
        self._record(self._start, None)
        result = function(*arguments)
        self._record(self._end, None)
        self.synchronize()
        self._record(self._settled, None)
        self.synchronize()
        return result, {"event_ms": self._between(self._start, self._end), "settled_ms": self._between(self._start, self._settled)}

    def _between(self, start, end):
        milliseconds = ctypes.c_float()
        self._elapsed(ctypes.byref(milliseconds), start, end)
        return milliseconds.value

    def flush_cache(self):
        """Puts other bytes in the place of whatever the L2 cache holds; does not wait for it."""
        self._fill(self._flushed, 1, FLUSH_BYTES, None)


def content_digest(tensor):
    """Tells tensors of equal content; computed on the GPU, since parameters may be gigabytes."""
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    digest = hashlib.sha256()
    for start in range(0, flat.numel(), 1 << 26):
        piece = flat[start : start + (1 << 26)]
        weights = torch.arange(1, piece.numel() + 1, device=piece.device, dtype=torch.int64) * MULTIPLIER % MODULUS
        digest.update(str(int((piece.long() * weights).sum())).encode())
    return digest.hexdigest()
