"""What Triton's interpreter needs before it runs kernels as the compiler would.

Each repair names the version that it was written against (triton 3.6.0); apply() is called once, before any
candidate is imported.
"""

import numpy as np
import triton
import triton.language as tl
from triton.runtime import autotuner, interpreter


def _index_of_one_element_arrays():
    # NumPy 2.4 refuses int() of a one-element array, which tensor.__index__ does for every run-time loop bound
    # (triton issue 9171, fixed after 3.6).
    patch_tensor = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(np.asarray(self.handle.data).reshape(-1)[0]))

    interpreter._patch_lang_tensor = patched


def _first_autotune_config():
    # With more than one configuration the tuner asks for a GPU's timer. Which is best means nothing here.
    run = autotuner.Autotuner.run

    def run_with_first_config(self, *args, **kwargs):
        self.configs = self.configs[:1]
        return run(self, *args, **kwargs)

    autotuner.Autotuner.run = run_with_first_config


def _tf32_dot():
    # On a GPU, tl.dot of fp32 operands multiplies in tf32 unless told otherwise, and Triton truncates the
    # operands to tf32's ten bits of mantissa. The interpreter would multiply in full precision and hide it.
    create_dot = interpreter.InterpreterBuilder.create_dot
    tf32 = interpreter._ir.INPUT_PRECISION.TF32

    def truncate(handle):
        bits = np.ascontiguousarray(handle.data).view(np.uint32) & np.uint32(0xFFFFE000)
        return interpreter.TensorHandle(bits.view(np.float32), handle.dtype.scalar)

    def dot(self, a, b, d, input_precision, max_num_imprecise_acc):
        if input_precision == tf32 and a.dtype.scalar == tl.float32 and a.data.dtype == np.float32 and b.data.dtype == np.float32:
            a, b = truncate(a), truncate(b)
        return create_dot(self, a, b, d, input_precision, max_num_imprecise_acc)

    interpreter.InterpreterBuilder.create_dot = dot


def _is_bf16(handle):
    return handle.dtype.scalar == tl.bfloat16 and handle.data.dtype == np.uint16


def _decode(handle):
    if not _is_bf16(handle):
        return handle
    data = (np.ascontiguousarray(handle.data).astype(np.uint32) << 16).view(np.float32)
    return interpreter.TensorHandle(data, tl.float32)


def _encode(handle):
    """float32 to bf16, rounding to nearest even; what is not float32 (a comparison) stays."""
    if handle.data.dtype != np.float32:
        return handle
    bits = np.ascontiguousarray(handle.data).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    rounded = np.where(np.isnan(handle.data), np.uint32(0x7FC0), rounded)
    return interpreter.TensorHandle(rounded.astype(np.uint16), tl.bfloat16)


def _bf16_arithmetic():
    # The interpreter keeps bf16 as its bits in uint16 and computes on those: sums and products of bit patterns.
    builder = interpreter.InterpreterBuilder
    binary, unary, dot = builder.binary_op, builder.unary_op, builder.create_dot
    bitwise = (np.bitwise_and, np.bitwise_or, np.bitwise_xor)

    def binary_op(self, lhs, rhs, op):
        if op in bitwise or not (_is_bf16(lhs) and _is_bf16(rhs)):
            return binary(self, lhs, rhs, op)
        return _encode(binary(self, _decode(lhs), _decode(rhs), op))

    def unary_op(self, arg, op):
        return _encode(unary(self, _decode(arg), op)) if _is_bf16(arg) else unary(self, arg, op)

    def create_dot(self, a, b, d, *rest):
        return dot(self, _decode(a), _decode(b), d, *rest)

    builder.binary_op, builder.unary_op, builder.create_dot = binary_op, unary_op, create_dot
    for name in ("create_rsqrt", "create_fma", "create_clampf"):
        method = getattr(builder, name)

        def on_decoded(self, *args, method=method):
            if not any(isinstance(arg, interpreter.TensorHandle) and _is_bf16(arg) for arg in args):
                return method(self, *args)
            decoded = [_decode(arg) if isinstance(arg, interpreter.TensorHandle) else arg for arg in args]
            return _encode(method(self, *decoded))

        setattr(builder, name, on_decoded)


def apply(*, emulate_tf32):
    """Applies the repairs; emulate_tf32: whether dot products of fp32 lose what tf32 loses."""
    assert triton.__version__.startswith("3.6."), f"written for triton 3.6, found {triton.__version__}"
    assert tl.core is interpreter.tl.core
    _index_of_one_element_arrays()
    _first_autotune_config()
    if emulate_tf32:
        _tf32_dot()
    # Outermost; bf16 has fewer bits of mantissa than tf32 keeps, so the two repairs do not disturb each other.
    _bf16_arithmetic()
