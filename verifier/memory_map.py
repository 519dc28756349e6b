"""What is known about every piece of memory that a candidate's kernels may touch: where it lies, which bytes
were ever written, what they held when a known operation last wrote them."""

import ctypes

import numpy as np
from torch.multiprocessing.reductions import StorageWeakRef

def checksum(address, size, hash=hash, copy=ctypes.string_at):
    """Of storages of every size, and by Python's keyed hash: a sum that can be steered, as CRC-32 can, hides a change
    behind four more bytes."""
    return hash(copy(address, size)) if size else 0


class Region:
    """One storage. reads_content: whether what it holds is looked at, which only the CPU's own memory allows."""

    def __init__(self, address, size, reference, name, reads_content):
        self.name = name  # the same in every call that makes the same storages in the same order
        self.address = address
        self.size = size
        self.reference = reference
        self.written = None  # per byte, 0: never written; None: all of it was
        self.from_input = False  # its content depends on the inputs of the call
        self.kernel_call = -1  # the last call in which a kernel of the candidate (or something from one) wrote it
        self.reads_content = reads_content
        self.sum = None
        self.resum()

    def resum(self):
        if self.reads_content:
            self.sum = checksum(self.address, self.size)

    def changed_unseen(self):
        return self.reads_content and checksum(self.address, self.size) != self.sum


class MemoryMap:
    """All live storages that known operations made, by address."""

    def __init__(self, reads_content=True):
        self.reads_content = reads_content
        self._regions = {}
        self._num_made = 0
        self._call = "before"
        self._starts = np.empty(0, dtype=np.uint64)
        self._ends = np.empty(0, dtype=np.uint64)
        self._order = []

    def begin_call(self):
        """The storages made from here on are named anew, by their order, the inputs' first."""
        for region in self._live():
            if region.name[0] == "call":
                region.name = ("earlier", region.name[1])
        self._num_made = 0
        self._call = "call"

    def find(self, tensor):
        """The region of the tensor's storage, or None where no known operation made it."""
        storage = tensor.untyped_storage()
        region = self._regions.get(storage.data_ptr())
        if region is None or region.size != storage.nbytes() or region.reference.expired():
            return None
        return region

    def add(self, tensor):
        """Enters the tensor's storage, all of it written, anew."""
        storage = tensor.untyped_storage()
        self._num_made += 1
        name = (self._call, self._num_made)
        region = Region(storage.data_ptr(), storage.nbytes(), StorageWeakRef(storage), name, self.reads_content)
        if region.size:
            self._regions[region.address] = region
        return region

    def resum_all(self):
        for region in self._live():
            region.resum()

    def _live(self):
        self._regions = {a: r for a, r in self._regions.items() if not r.reference.expired()}
        return self._regions.values()

    def prepare_lookup(self):
        """Sorts the live regions for locate(); to be called before each launch."""
        self._order = sorted(self._live(), key=lambda region: region.address)
        self._starts = np.array([region.address for region in self._order], dtype=np.uint64)
        self._ends = np.array([region.address + region.size for region in self._order], dtype=np.uint64)

    def locate(self, addresses, size):
        """Index of the region of each address (into region_at), -1 where `size` bytes from it leave every region."""
        if not self._order:
            return np.full(addresses.shape, -1)
        index = np.searchsorted(self._starts, addresses, side="right") - 1
        inside = (index >= 0) & (addresses + np.uint64(size) <= self._ends[np.maximum(index, 0)])
        return np.where(inside, index, -1)

    def region_at(self, index):
        return self._order[index]

    @staticmethod
    def mark_tensor(region, tensor):
        """Notes that all elements of a tensor on the region were written."""
        if region.written is None:
            return
        if tensor.numel() * tensor.element_size() >= region.size:
            region.written = None
            return
        size = tensor.element_size()
        start = tensor.storage_offset() * size
        shadow = np.lib.stride_tricks.as_strided(
            region.written[start:],
            shape=(*tensor.shape, size),
            strides=(*[stride * size for stride in tensor.stride()], 1),
        )
        shadow[...] = 1
        if region.written.all():
            region.written = None
