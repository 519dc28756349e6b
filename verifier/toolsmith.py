"""Runs the two programs that a compilation for a GPU needs, the assembler and the C compiler, in a process forked from
the candidate's before the system-call filter is in force and before a line of the candidate has run. What can be asked
of it is fixed: the assembler under its own path, and a launcher whose source this process writes itself from the types
of a kernel's arguments."""

import hashlib
import json
import os
import re
import struct
import subprocess
import tempfile

from triton.backends.nvidia import compiler, driver
from triton import knobs
from triton.runtime import build

LENGTH = struct.Struct("<I")
MAX_BYTES = 1 << 20
# A type of an argument as Triton writes it: fp32, *i64, *kfp16, constexpr, tensordesc<fp16[64, 32]>.
TYPE = re.compile(r"\*?[a-z][a-z0-9]{0,20}|tensordesc<[a-z0-9]{1,8}\[[0-9, ]{1,40}\][a-zA-Z0-9_<>=,. \[\]()]{0,200}>")
TOOL_SECONDS = 100


def _read_exactly(fd, size):
    parts = []
    while size:
        part = os.read(fd, size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _receive(fd):
    (size,) = LENGTH.unpack(_read_exactly(fd, LENGTH.size))
    if size > MAX_BYTES:
        raise EOFError
    return json.loads(_read_exactly(fd, size))


def _send(fd, message):
    data = json.dumps(message).encode()
    data = LENGTH.pack(len(data)) + data
    while data:
        data = data[os.write(fd, data) :]


def _as_types(value):
    if isinstance(value, list):
        return tuple(_as_types(item) for item in value)
    if not isinstance(value, str) or not TYPE.fullmatch(value):
        raise ValueError(f"no type of an argument: {str(value)[:80]}")
    return value


def _make_launcher(request, make_launcher, dirs):
    types = [_as_types(value) for value in request["types"]]
    source = make_launcher({}, dict(enumerate(types)), request["descriptors"])
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "launcher.c")
    with open(path, "w", encoding="utf-8") as file:
        file.write(source)
    return build._build("__triton_launcher", path, folder, dirs, driver.include_dirs, driver.libraries, [])


def _serve(requests, answers, make_launcher, assemblers, dirs):
    while True:
        try:
            request = _receive(requests)
        except EOFError:
            return
        try:
            if "argv" in request:
                argv = [str(word) for word in request["argv"]]
                if argv[0] not in assemblers:
                    raise ValueError("not a program that is run here")
                done = subprocess.run(argv, capture_output=True, timeout=TOOL_SECONDS, check=False)
                answer = {"code": done.returncode, "output": done.stdout.decode(errors="replace")[-60000:],
                          "errors": done.stderr.decode(errors="replace")[-60000:]}
            else:
                answer = {"path": _make_launcher(request, make_launcher, dirs)}
        except Exception as failure:  # whatever a tool does is an answer
            answer = {"failure": f"{type(failure).__name__}: {failure}"[:2000]}
        _send(answers, answer)


class _Subprocess:
    """In the place of the module subprocess, where Triton runs the assembler."""

    CalledProcessError = subprocess.CalledProcessError
    STDOUT, DEVNULL, PIPE = subprocess.STDOUT, subprocess.DEVNULL, subprocess.PIPE

    def __init__(self, ask):
        self._ask = ask

    def _run(self, argv):
        answer = self._ask({"argv": [str(word) for word in argv]})
        if "failure" in answer:
            raise RuntimeError(answer["failure"])
        return answer

    def run(self, argv, check=False, close_fds=True, stderr=None):
        answer = self._run(argv)
        if hasattr(stderr, "name"):
            # Triton opened it for reading, under the name that the assembler was to write to.
            with open(stderr.name, "w", encoding="utf-8") as log:
                log.write(answer["errors"])
        if check and answer["code"] != 0:
            raise subprocess.CalledProcessError(answer["code"], argv)
        return subprocess.CompletedProcess(argv, answer["code"])

    def check_output(self, argv, **_):
        return self._run(argv)["output"].encode()


def start():
    """Forks the process and has Triton ask it from now on. Before any use of the GPU."""
    requests_out, requests_in = os.pipe()
    answers_out, answers_in = os.pipe()
    assemblers = {tool.path for tool in (knobs.nvidia.ptxas, knobs.nvidia.ptxas_blackwell) if tool}
    compiler.get_ptxas_version(90)
    dirs = driver.library_dirs()
    make_launcher = driver.make_launcher
    if os.fork() == 0:
        os.close(requests_in)
        os.close(answers_out)
        os.close(3)
        try:
            _serve(requests_out, answers_in, make_launcher, assemblers, dirs)
        finally:
            os._exit(0)
    os.close(requests_out)
    os.close(answers_in)

    def ask(request):
        _send(requests_in, request)
        return _receive(answers_out)

    loaded = {}
    load = build._load_module_from_path

    def launcher_request(constants, signature, descriptors):
        return json.dumps({"types": list(signature.values()), "descriptors": descriptors})

    def compile_module(src, name, **_):
        key = hashlib.sha256(src.encode()).hexdigest()
        if key not in loaded:
            answer = ask(json.loads(src))
            if "failure" in answer:
                raise RuntimeError(answer["failure"])
            loaded[key] = load(name, answer["path"])
        return loaded[key]

    # The driver's own module of utilities is compiled by Triton itself, before these take effect, and only once.
    utilities = driver.CudaUtils()
    driver.CudaUtils = lambda: utilities
    driver.make_launcher = launcher_request
    driver.compile_module_from_src = compile_module
    compiler.subprocess = knobs.subprocess = _Subprocess(ask)
