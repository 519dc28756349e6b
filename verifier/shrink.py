"""Smaller sizes for problems that are too large for the interpreter: fewer rows, never narrower ones.

A module constant may shrink where it sets only leading dimensions of the inputs and nothing of the model: kernels
are written for any number of rows, but often for one width.
"""

import torch

from tensors import leaves

MAX_ELEMENTS = 1 << 17
MIN_ROWS = 3


def _shapes(module):
    # On the meta device tensors have shapes and no memory: the full sizes may be gigabytes.
    with torch.device("meta"):
        return [tuple(tensor.shape) for tensor in leaves(list(module.get_inputs()))]


def _total(shapes):
    return sum(torch.Size(shape).numel() for shape in shapes)


def _sets_only_rows(module, name, value, shapes, init_inputs):
    """Whether another value changes only first dimensions of inputs that have others too."""
    setattr(module, name, value - 1)
    try:
        changed = _shapes(module)
        if repr(list(module.get_init_inputs())) != init_inputs:
            return False
    except Exception:  # whatever a problem raises at a size that it was not written for
        return False
    finally:
        setattr(module, name, value)
    moved = [
        {position for position in range(len(old)) if old[position] != new[position]} if len(old) == len(new) else {-1}
        for old, new in zip(shapes, changed)
    ]
    return any(moved) and all(dims <= {0} and (not dims or len(old) > 1) for dims, old in zip(moved, shapes))


def reduced_constants(module, max_elements=MAX_ELEMENTS):
    """Values for the module's constants that bring the inputs down to max_elements, or nearer to it; {} where they
    are small already or nothing may shrink. The module itself stays as it is."""
    try:
        shapes = _shapes(module)
        init_inputs = repr(list(module.get_init_inputs()))
    except Exception:  # a get_inputs that insists on real tensors: it stays at its size
        return {}
    if _total(shapes) <= max_elements:
        return {}
    constants = {
        name: value
        for name, value in vars(module).items()
        if type(value) is int and value > MIN_ROWS and not name.startswith("_")
    }
    original = dict(constants)
    rows = [n for n, v in constants.items() if _sets_only_rows(module, n, v, shapes, init_inputs)]
    try:
        for name in sorted(rows, key=lambda name: -constants[name]):
            while constants[name] > MIN_ROWS and _total(_shapes(module)) > max_elements:
                constants[name] = max(MIN_ROWS, constants[name] // 2)
                setattr(module, name, constants[name])
    finally:
        for name in rows:
            setattr(module, name, original[name])
    return {name: constants[name] for name in rows if constants[name] != original[name]}
