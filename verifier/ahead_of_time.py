"""Compiles the kernels that were launched for a GPU, down to PTX, which needs neither a GPU nor a program outside
of this process. The assembler runs elsewhere, on the text alone."""

import types

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler.code_generator import CodeGenerator
from triton.compiler.compiler import ASTSource
from triton._C.libtriton import ir
from triton.runtime import interpreter
from triton.runtime.jit import JITFunction

TARGET = GPUTarget("cuda", 90, 32)
PTX_VERSION = 87
PLAIN_MODULES = ("builtins", "math", "triton", "typing", "_operator", "operator")


class ForeignCall(Exception):
    """A kernel calls a Python function, which the interpreter runs and a GPU cannot."""


def _libraries():
    language = triton.language
    return [language, language.core, language.math, language.standard, language.random, language.extra.libdevice,
            language.semantic, triton]


class Compiler:
    """Made before the candidate is imported; compile() is called when the interpreter is no longer needed."""

    def __init__(self):
        self._backend = CUDABackend(TARGET)
        self._language = [(space, dict(vars(space))) for space in _libraries()] + [
            (triton.language.tensor, dict(vars(triton.language.tensor))),
            (triton.language.dtype, dict(vars(triton.language.dtype))),
        ]
        self._interpreter_names = set(vars(interpreter))
        self._compiled = {}

    def _jit(self, function):
        if function.fn not in self._compiled:
            known = ("version", "do_not_specialize", "do_not_specialize_on_alignment", "debug", "noinline", "repr",
                     "launch_metadata")
            options = {key: value for key, value in function.kwargs.items() if key in known}
            self._compiled[function.fn] = JITFunction(function.fn, **options)
        return self._compiled[function.fn]

    def _replace_in(self, namespace, setter):
        for name, value in list(namespace.items()):
            while isinstance(value, triton.runtime.autotuner.Heuristics | triton.runtime.autotuner.Autotuner):
                value = value.fn
            if isinstance(value, interpreter.InterpretedFunction):
                setter(name, self._jit(value))

    def leave_interpreter(self, module, own_names):
        """Turns interpreted functions into compiled ones, in the language and in the candidate's module, and takes
        the names that the interpreter put into the module out again."""
        triton.knobs.runtime.interpret = False
        for space, before in self._language:
            for name, value in list(vars(space).items()):
                if name in before and value is not before[name]:
                    setattr(space, name, before[name])
            self._replace_in(vars(space), lambda name, value, space=space: setattr(space, name, value))
        for name in list(vars(module)):
            if name in self._interpreter_names and name not in own_names:
                delattr(module, name)
        self._replace_in(vars(module), lambda name, value: vars(module).__setitem__(name, value))
        self._forbid_foreign_calls()

    @staticmethod
    def _forbid_foreign_calls():
        call_function = CodeGenerator.call_Function

        def checked(self, node, fn, args, kws):
            if isinstance(fn, types.FunctionType):
                home = fn.__module__ or ""
                if not home.startswith(PLAIN_MODULES) and not fn.__code__.co_filename.startswith("<"):
                    raise ForeignCall(f"calls the Python function {fn.__name__}")
            elif isinstance(fn, types.BuiltinFunctionType) and not (fn.__module__ or "builtins").startswith(PLAIN_MODULES):
                raise ForeignCall(f"calls {fn.__module__}.{fn.__name__}")
            return call_function(self, node, fn, args, kws)

        CodeGenerator.call_Function = checked

    def compile(self, launch):
        """{"ptx", "shared_bytes", "num_warps"} of one launch, or {"error", "error_class"}."""
        try:
            return self._compile(launch)
        except Exception as failure:  # whatever the compiler raises is its verdict on the kernel
            cause = failure
            while cause.__cause__ is not None or cause.__context__ is not None:
                cause = cause.__cause__ or cause.__context__
            foreign = isinstance(cause, ForeignCall) or isinstance(failure, ForeignCall)
            return {"error": f"{type(failure).__name__}: {failure}"[:2000],
                    "error_class": "foreign_call" if foreign else "triton"}

    def _compile(self, launch):
        function = self._compiled.get(launch.function) or JITFunction(launch.function)
        signature, constants = {}, {}
        for name, kind, value in launch.arguments:
            if kind == "constexpr" or (kind in ("i32", "i64") and value == "1"):
                signature[name] = "constexpr"
                constants[name] = value if kind == "constexpr" else 1
            else:
                signature[name] = kind
        options = self._backend.parse_options({**launch.options, "ptx_version": PTX_VERSION})
        source = ASTSource(function, signature, constants)
        stages = {}
        self._backend.add_stages(stages, options, source.language)
        context = ir.context()
        ir.load_dialects(context)
        self._backend.load_dialects(context)
        metadata = {"target": TARGET, **options.__dict__}
        module = source.make_ir(TARGET, options, self._backend.get_codegen_implementation(options),
                                self._backend.get_module_map(), context)
        for name in ("ttir", "ttgir", "llir", "ptx"):
            module = stages[name](module, metadata)
        return {"ptx": module, "shared_bytes": int(metadata["shared"]), "num_warps": int(metadata["num_warps"])}
