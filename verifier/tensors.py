"""How arguments and results cross between processes: a tree of JSON in which each tensor is described by dtype,
shape and strides and its storage stands in a blob. Nothing is pickled."""

import torch

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class UnsupportedValue(Exception):
    """A value that the protocol cannot carry."""


def storage_extent(tensor):
    """Number of elements from the tensor's first to its last, in memory order."""
    if tensor.numel() == 0:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))


def tensor_bytes(tensor):
    """The bytes from the first to the last element of a CPU tensor, gaps included."""
    extent = storage_extent(tensor)
    flat = torch.as_strided(tensor.detach(), (extent,), (1,), tensor.storage_offset()).clone()
    return flat.view(torch.uint8).numpy().tobytes() if extent else b""


def encode(value, blobs):
    """The tree of `value`; the bytes of its tensors are appended to the list `blobs`."""
    if isinstance(value, torch.Tensor):
        if value.dtype not in DTYPE_NAMES:
            raise UnsupportedValue(f"tensors of {value.dtype}")
        data = tensor_bytes(value)
        blobs.append(data)
        return {
            "tensor": DTYPE_NAMES[value.dtype],
            "shape": list(value.shape),
            "strides": list(value.stride()),
            "bytes": len(data),
        }
    if value is None or isinstance(value, (bool, int, str)):
        return {"value": value}
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, list):
        return {"list": [encode(item, blobs) for item in value]}
    if isinstance(value, tuple):
        return {"tuple": [encode(item, blobs) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: encode(item, blobs) for key, item in value.items()}}
    if isinstance(value, torch.dtype) and value in DTYPE_NAMES:
        return {"dtype": DTYPE_NAMES[value]}
    raise UnsupportedValue(f"values of type {type(value).__name__}")


def decode(tree, make_tensor):
    """The value of a tree; make_tensor(leaf) supplies each tensor, in the order in which encode met them."""
    if "tensor" in tree:
        return make_tensor(tree)
    if "value" in tree:
        return tree["value"]
    if "float" in tree:
        return float.fromhex(tree["float"])
    if "list" in tree:
        return [decode(item, make_tensor) for item in tree["list"]]
    if "tuple" in tree:
        return tuple(decode(item, make_tensor) for item in tree["tuple"])
    if "dict" in tree:
        return {key: decode(item, make_tensor) for key, item in tree["dict"].items()}
    return DTYPES[tree["dtype"]]


def tensor_from_buffer(buffer, leaf, offset):
    """A tensor over the memory of `buffer` (writable) at a byte offset."""
    dtype = DTYPES[leaf["tensor"]]
    if leaf["bytes"] == 0:
        return torch.empty(leaf["shape"], dtype=dtype)
    count = leaf["bytes"] // dtype.itemsize
    flat = torch.frombuffer(buffer, dtype=dtype, count=count, offset=offset)
    return torch.as_strided(flat, leaf["shape"], leaf["strides"])


def blob_reader(blob):
    """A make_tensor for decode that takes the tensors one after the other out of a blob."""
    buffer = bytearray(blob)
    position = 0

    def make_tensor(leaf):
        nonlocal position
        tensor = tensor_from_buffer(buffer, leaf, position).clone()
        position += leaf["bytes"]
        return tensor

    return make_tensor


def leaves(value):
    """The tensors in a nest of lists, tuples and dictionaries, in encode's order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in leaves(item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in leaves(item)]
    return []


def map_tensors(value, function):
    """The same nest with every tensor replaced."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(item, function) for item in value)
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
    return value
