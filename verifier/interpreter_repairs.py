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
        if input_precision == tf32 and a.data.dtype == np.float32 and b.data.dtype == np.float32:
            a, b = truncate(a), truncate(b)
        return create_dot(self, a, b, d, input_precision, max_num_imprecise_acc)

    interpreter.InterpreterBuilder.create_dot = dot


def apply(*, emulate_tf32):
    """Applies the repairs; emulate_tf32: whether dot products of fp32 lose what tf32 loses."""
    assert triton.__version__.startswith("3.6."), f"written for triton 3.6, found {triton.__version__}"
    assert tl.core is interpreter.tl.core
    _index_of_one_element_arrays()
    _first_autotune_config()
    if emulate_tf32:
        _tf32_dot()
