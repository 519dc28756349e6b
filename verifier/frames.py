"""Messages between the judge and a worker: a header of two lengths, a JSON object, raw bytes."""

import json
import socket
import struct

HEADER = struct.Struct("<II")
MAX_JSON_BYTES = 1 << 20
MAX_BLOB_BYTES = 1 << 31


class Channel:
    """One end of a stream socket. The functions it needs are bound here, so that later changes of the modules
    that they come from do not reach it. It receives and sends as a socket does, which the system-call filter allows
    on this descriptor, while it refuses to read it and to write to it as a file."""

    def __init__(self, fd):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd)
        self._receive = self._socket.recv
        self._send = self._socket.send
        self._dumps = json.dumps
        self._loads = json.loads

    def _read_exactly(self, size):
        parts = []
        while size > 0:
            part = self._receive(min(size, 1 << 20))
            if not part:
                raise EOFError("the judge closed the channel")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def receive(self):
        """Returns (message, blob)."""
        json_bytes, blob_bytes = HEADER.unpack(self._read_exactly(HEADER.size))
        if json_bytes > MAX_JSON_BYTES or blob_bytes > MAX_BLOB_BYTES:
            raise ValueError("a frame is larger than the protocol allows")
        return self._loads(self._read_exactly(json_bytes)), self._read_exactly(blob_bytes)

    def send(self, message, blob=b""):
        text = self._dumps(message, allow_nan=False).encode()
        data = memoryview(HEADER.pack(len(text), len(blob)) + text + blob)
        while data:
            data = data[self._send(data) :]
