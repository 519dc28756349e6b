"""What the text of a candidate says before any of it runs. Parsed, never executed."""

import ast

INTROSPECTION = {
    "f_back", "f_locals", "f_globals", "f_builtins", "tb_frame", "tb_next", "gi_frame", "cr_frame", "__globals__",
    "__closure__", "cell_contents", "__subclasses__", "__mro__", "__code__", "__builtins__", "__loader__", "__spec__",
    "_getframe", "_current_frames", "__traceback__", "with_traceback", "__getattribute__",
}
INTERPRETER_SIGNS = {"TRITON_INTERPRET", "InterpretedFunction", "interpreter_builder", "GridExecutor", "is_interpreted",
                     "interpret_mode", "NEMOFORGE"}
COMPILERS = {"compile", "script", "trace", "load_inline", "freeze", "make_fx", "inline_asm"}
# A tensor, or an array, over any memory of the process.
RAW_MEMORY = {"__array_interface__", "__array_struct__", "stride_tricks"}
CLOCKS = {"time", "perf_counter", "monotonic", "process_time", "time_ns", "perf_counter_ns", "monotonic_ns"}


def _root(node):
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _dotted(node):
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id] + parts[::-1]) if isinstance(node, ast.Name) else ""


def _joined(node):
    """The text of string constants added to each other; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Add):
        return None
    left, right = _joined(node.left), _joined(node.right)
    return None if left is None or right is None else left + right


class _Facts(ast.NodeVisitor):
    def __init__(self):
        self.imported = set()
        self.clocks = set()
        self.findings = []
        self.function_depth = 0

    def find(self, kind, node, detail):
        self.findings.append({"kind": kind, "detail": f"line {node.lineno}: {detail}"[:300]})

    def visit_Import(self, node):
        for name in node.names:
            self.imported.add((name.asname or name.name).split(".")[0])

    def visit_ImportFrom(self, node):
        for name in node.names:
            self.imported.add(name.asname or name.name)
            if node.module == "time" and name.name in CLOCKS:
                self.clocks.add(name.asname or name.name)

    def _target(self, target):
        if isinstance(target, (ast.Tuple, ast.List)):
            for item in target.elts:
                self._target(item)
        elif isinstance(target, ast.Attribute) and _root(target) in self.imported:
            dotted = _dotted(target)
            if ".backends." not in dotted:
                self.find("module_patch", target, f"assigns to {dotted}")

    def visit_Assign(self, node):
        for target in node.targets:
            self._target(target)
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        self._target(node.target)
        self.generic_visit(node)

    def visit_Delete(self, node):
        for target in node.targets:
            self._target(target)
        self.generic_visit(node)

    def visit_Attribute(self, node):
        if node.attr in INTROSPECTION:
            self.find("introspection", node, f"reads .{node.attr}")
        if node.attr in RAW_MEMORY:
            self.find("memory_scan", node, f"reads .{node.attr}")
        if node.attr in INTERPRETER_SIGNS or _dotted(node).endswith("knobs.runtime"):
            self.find("env_sensing", node, f"reads .{node.attr}")
        self.generic_visit(node)

    def visit_Name(self, node):
        if node.id in RAW_MEMORY:
            self.find("memory_scan", node, f"names {node.id}")
        if node.id in INTERPRETER_SIGNS:
            self.find("env_sensing", node, f"names {node.id}")
        if node.id in INTROSPECTION:
            self.find("introspection", node, f"names {node.id}")

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self._string(node, node.value)

    def visit_BinOp(self, node):
        text = _joined(node)
        if text is not None:
            self._string(node, text)
        self.generic_visit(node)

    def _string(self, node, text):
        if len(text) >= 80:
            return
        if text in INTERPRETER_SIGNS:
            self.find("env_sensing", node, f"names {text}")
        elif text in RAW_MEMORY:
            self.find("memory_scan", node, f"names {text}")
        elif text in INTROSPECTION or text.startswith(("/proc/", "/sys/", "/dev/")):
            self.find("introspection", node, f"names {text}")

    def visit_Call(self, node):
        dotted = _dotted(node.func)
        if dotted in ("setattr", "delattr") and node.args and _root(node.args[0]) in self.imported:
            self.find("module_patch", node, f"{dotted} on {ast.unparse(node.args[0])}")
        if dotted.split(".")[-1] in CLOCKS and (dotted.startswith("time.") or dotted in self.clocks):
            self.find("clock", node, f"asks {dotted}()")
        if dotted in ("torch.compile", "torch.jit.script", "torch.jit.trace", "torch.jit.script_method"):
            self.find("compiler_offload", node, f"calls {dotted}")
        self.generic_visit(node)

    def visit_If(self, node):
        """A branch for GPUs alone that returns: what it returns was not seen here."""
        negated = isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not)
        test = ast.unparse(node.test)
        if self.function_depth and any(sign in test for sign in ("is_cuda", "cuda.is_available", ".device")):
            unequal = any(isinstance(op, ast.NotEq) for part in ast.walk(node.test) if isinstance(part, ast.Compare) for op in part.ops)
            on_cpu = ("'cpu'" in test) != unequal if "'cpu'" in test else (negated or unequal)
            unseen = node.orelse if on_cpu else node.body
            if any(isinstance(part, ast.Return) for statement in unseen for part in ast.walk(statement)):
                self.find("device_branch", node, f"returns something else where {test}"[:200])
        self.generic_visit(node)

    def visit_FunctionDef(self, node):
        self.function_depth += 1
        self._function(node)
        self.function_depth -= 1

    def _function(self, node):
        if node.name in RAW_MEMORY:
            self.find("memory_scan", node, f"defines {node.name}")
        for decorator in node.decorator_list:
            if _dotted(decorator) in ("torch.compile", "torch.jit.script"):
                self.find("compiler_offload", node, f"decorated with {_dotted(decorator)}")
        self._counters(node)
        self.generic_visit(node)

    def _counters(self, function):
        """A number that a method counts up and also decides by: the call's index, in one form or another."""
        if any(_dotted(d).endswith("jit") or _dotted(getattr(d, "func", d)).endswith("jit") for d in function.decorator_list):
            return
        counted = set()
        outer = {name for node in ast.walk(function) if isinstance(node, (ast.Global, ast.Nonlocal)) for name in node.names}
        for node in ast.walk(function):
            if isinstance(node, ast.AugAssign):
                if isinstance(node.target, (ast.Attribute, ast.Subscript)) or (
                    isinstance(node.target, ast.Name) and node.target.id in outer
                ):
                    counted.add(ast.unparse(node.target))
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
                for target in node.targets:
                    text = ast.unparse(target)
                    if not isinstance(target, ast.Name) and text in ast.unparse(node.value):
                        counted.add(text)
            if isinstance(node, ast.Call):
                counted |= _counts(node)
        aliases = set(counted)
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and any(text in ast.unparse(node.value) for text in counted):
                aliases.update(t.id for t in node.targets if isinstance(t, ast.Name))
        for node in ast.walk(function):
            test = getattr(node, "test", None) if isinstance(node, (ast.If, ast.IfExp, ast.While)) else None
            if test is not None and any(
                text in (ast.unparse(part) for part in ast.walk(test) if isinstance(part, ast.expr)) for text in aliases
            ):
                self.find("call_counter", node, f"{function.name} decides by a number that it counts up")


def _counts(call):
    """What a call counts by: an iterator that goes on, a collection that grows or runs down, a die."""
    if isinstance(call.func, ast.Name) and call.func.id == "next" and call.args and isinstance(call.args[0], (ast.Attribute, ast.Name)):
        return {ast.unparse(call)}
    if _dotted(call.func).startswith(("random.", "uuid.", "np.random.", "numpy.random.")):
        return {ast.unparse(call)}
    if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Attribute):
        collection = ast.unparse(call.func.value)
        if call.func.attr in ("append", "extend", "add", "appendleft", "insert"):
            return {f"len({collection})"}
        if call.func.attr in ("pop", "popleft", "rotate"):
            return {f"len({collection})", collection}
    return set()


def _is_model(node):
    return isinstance(node, ast.ClassDef) and node.name == "ModelNew"


def examine(source):
    """(error text or None, findings). The error says why the text is no candidate at all."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as failure:
        return f"{type(failure).__name__}: {failure}", []
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    if "ModelNew" not in names and not any(
        isinstance(node, ast.Name) and node.id == "ModelNew" for node in ast.walk(tree)
    ):
        return "the code defines no class ModelNew", []
    facts = _Facts()
    facts.visit(tree)
    return None, facts.findings[:64]
