"""The server as a process: started on a free port with the demo checkpoint, stopped by a signal."""

import os
import pathlib
import queue
import re
import signal
import subprocess
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "models" / "demo"
START_TIMEOUT_S = 120


class Server:
    def __init__(self, *flags: str):
        binary = os.environ["NEMOFORGE_BINARY"]
        command = [binary, "serve", "--model", str(MODEL), "--device", "cpu", "--port", "0", *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._ports: queue.Queue[int] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        scheme = "https" if "--ssl-certfile" in flags else "http"
        self.url = f"{scheme}://127.0.0.1:{self._ports.get(timeout=START_TIMEOUT_S)}"

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if found := re.search(r"serving .* at https?://[^ ]*:(\d+) ", line):
                self._ports.put(int(found.group(1)))

    def signal(self, number: int):
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 60) -> int:
        """The exit code."""
        code = self.process.wait(timeout=timeout_s)
        self._reader.join(timeout=10)
        return code

    def __enter__(self):
        return self

    def resident_bytes(self) -> int:
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()
        self._reader.join(timeout=10)
        self.process.stderr.close()

