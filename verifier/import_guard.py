"""What the candidate's own code may import and do. The rule looks at who asks: torch and triton import nearly
everything that is refused here."""

import builtins
import os
import sys
import types

ALLOWED = set(
    "__future__ abc bisect cmath collections contextlib copy dataclasses decimal enum fractions functools hashlib heapq "
    "itertools json logging math numbers numpy operator os platform pprint random re statistics string struct sys "
    "textwrap time torch triton types typing typing_extensions uuid warnings".split()
)
REFUSED_PARTS = (
    "torch._C", "torch._dynamo", "torch._inductor", "torch._functorch", "torch.compiler", "torch.distributed",
    "torch.export", "torch.fx", "torch.jit", "torch.multiprocessing", "torch.utils.cpp_extension", "torch.utils.data",
    "torch.utils.dlpack", "torch.utils._python_dispatch", "torch.utils._device", "triton._C", "triton.backends",
    "triton.compiler", "triton.knobs", "triton.runtime.cache", "triton.runtime.driver", "triton.runtime.interpreter",
    "triton.runtime.jit", "numpy.ctypeslib", "numpy.f2py", "numpy.lib.stride_tricks", "logging.handlers", "logging.config",
)
# Refused audit events, by prefix, where the candidate's code raises them.
REFUSED_EVENTS = (
    "ctypes.", "subprocess.", "os.", "socket.", "gc.", "sys._getframe", "sys._current_", "sys.settrace",
    "sys.setprofile", "sys.addaudithook", "sys.unraisablehook", "sys.excepthook", "mmap.", "pty.", "signal.",
    "shutil.", "fcntl.", "code.__new__", "marshal.", "import_of_frames", "resource.", "syslog.", "webbrowser.",
)
FRAME_ATTRIBUTES = {"tb_frame", "gi_frame", "cr_frame", "ag_frame", "f_code", "gi_code"}


class Refused(ImportError):
    """Raised in the candidate for what it may not do."""


class ImportGuard:
    def __init__(self, candidate_path, module_name, trusted_roots, report):
        self._path = candidate_path
        self._name = module_name
        self._roots = tuple(trusted_roots)
        self._report = report
        self._import = builtins.__import__
        self._getframe = sys._getframe
        self._busy = False
        self._library = os.path.dirname(os.__file__) + os.sep
        self._facades = {"os": self._os_facade(), "sys": self._sys_facade()}

    def candidate_builtins(self):
        """The builtins that the candidate's module runs with: its imports come through the guard."""
        mine = dict(vars(builtins))
        mine["__import__"] = self._guarded_import
        for name in ("open", "input", "breakpoint"):
            mine[name] = self._refusal("sandbox_probe", name)
        for name in ("exit", "quit"):
            mine.pop(name, None)
        return mine

    def _refusal(self, kind, what):
        def refuse(*args, **kwargs):
            self._report(kind, f"{what}() called")
            raise Refused(f"{what} is not for candidates")

        return refuse

    def _os_facade(self):

        facade = types.ModuleType("os")
        facade.environ = {}
        facade.getenv = lambda key, default=None: facade.environ.get(key, default)
        facade.path = types.SimpleNamespace(**{n: getattr(os.path, n) for n in ("join", "basename", "dirname", "splitext")})
        facade.cpu_count = lambda: 1
        facade.sep, facade.linesep, facade.name = os.sep, os.linesep, os.name
        facade._exit = facade.abort = self._refusal("verdict_forge", "os._exit")
        for name in ("fork", "kill", "system", "popen", "execv", "execve", "spawnv", "nice", "setsid"):
            setattr(facade, name, self._refusal("resource", f"os.{name}"))
        for name in ("open", "read", "write", "dup", "dup2", "listdir", "scandir", "stat", "readlink", "walk", "getpid",
                     "getppid", "getcwd", "pipe", "remove", "unlink", "mkdir", "makedirs", "rename", "uname", "access"):
            setattr(facade, name, self._refusal("sandbox_probe", f"os.{name}"))
        return facade

    def _sys_facade(self):
        facade = types.ModuleType("sys")
        for name in ("version", "version_info", "maxsize", "float_info", "byteorder", "platform", "implementation",
                     "hexversion", "getsizeof", "getrecursionlimit", "intern", "stdout", "stderr", "exc_info"):
            setattr(facade, name, getattr(sys, name))
        facade.path, facade.argv = [], [""]
        facade.modules = {}
        facade.exit = self._refusal("verdict_forge", "sys.exit")
        for name in ("_getframe", "_current_frames", "settrace", "setprofile", "gettrace"):
            setattr(facade, name, self._refusal("reference_steal", f"sys.{name}"))
        for name in ("addaudithook", "setrecursionlimit", "setswitchinterval"):
            setattr(facade, name, self._refusal("sandbox_probe", f"sys.{name}"))
        return facade

    def _guarded_import(self, name, globals=None, locals=None, fromlist=(), level=0):
        wanted = [name] + [f"{name}.{part}" for part in fromlist or () if isinstance(part, str)]
        for full in wanted:
            if level or full.split(".")[0] not in ALLOWED or any(
                full == part or full.startswith(part + ".") for part in REFUSED_PARTS
            ):
                self._report("import_blocked", full)
                raise Refused(f"candidates may not import {full}")
        top = name.split(".")[0]
        if top in self._facades:
            if name == "os.path" and fromlist:
                return self._facades["os"].path
            return self._facades[top]
        return self._import(name, globals, locals, fromlist, level)

    def _is_candidate(self, frame):
        return frame is not None and (
            frame.f_code.co_filename == self._path or frame.f_globals.get("__name__") == self._name
        )

    def _caller_outside_library(self):
        """The nearest frame above the standard library's own: who asked for ctypes, subprocess or a socket."""
        frame = self._caller_frame(4)
        while frame is not None and frame.f_code.co_filename.startswith(self._library):
            if "site-packages" in frame.f_code.co_filename:
                break
            frame = frame.f_back
        return frame

    def _caller(self):
        """The frame that raised the audit event; None at the bottom of a stack."""
        return self._caller_frame(4)

    def _caller_frame(self, depth):
        try:
            return self._getframe(depth)
        except ValueError:
            return None

    def install_audit_hook(self):
        """Cannot be removed from Python. Sees what the candidate does by ways other than import."""

        def hook(event, arguments):
            if self._busy:
                return
            self._busy = True
            try:
                self._audit(event, arguments)
            finally:
                self._busy = False

        sys.addaudithook(hook)

    def _audit(self, event, arguments):
        if event == "open":
            self._audit_open(arguments)
            return
        if event == "object.__getattr__":
            if arguments[1] in FRAME_ATTRIBUTES and self._is_candidate(self._caller()):
                self._report("reference_steal", f"reads {arguments[1]}")
                raise Refused("frames are not for candidates")
            return
        if event.startswith(REFUSED_EVENTS) and self._is_candidate(self._caller_outside_library()):
            kind = "reference_steal" if event.startswith(("sys._", "gc.")) else "sandbox_probe"
            if event.startswith(("subprocess.", "os.fork", "os.system", "os.exec", "os.kill")):
                kind = "resource"
            if event.startswith("ctypes."):
                kind = "memory_scan"
            self._report(kind, event)
            raise Refused(f"{event} is not for candidates")

    def _audit_open(self, arguments):
        path = arguments[0]
        if isinstance(path, bytes):
            path = path.decode(errors="replace")
        if not isinstance(path, str) or path.startswith(self._roots) or path == self._path or path.startswith("<"):
            return
        frame = self._caller()
        while frame is not None and not self._is_candidate(frame):
            frame = frame.f_back
        if frame is not None:
            self._report("sandbox_probe", f"opens {path[:200]}")
            raise Refused("files are not for candidates")
