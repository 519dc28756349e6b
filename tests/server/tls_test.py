"""HTTPS: the openai package, httpx and bare sockets against the server with a certificate of a CA made here."""

import os
import pathlib
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

import httpx
import openai
from server_process import MODEL, Server

MESSAGES = [{"role": "user", "content": "What is 2 + 3?"}]
HANDSHAKE_TIMEOUT_S = 10
REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_ca(folder: pathlib.Path):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test CA",
            "-keyout", folder / "ca.key", "-out", folder / "ca.pem")  # fmt: skip


def make_certificate(folder: pathlib.Path, name: str, *key_flags: str):
    """name.pem and name.key for localhost, signed by the CA."""
    request, extensions = folder / f"{name}.csr", folder / "extensions"
    openssl("req", *key_flags, "-nodes", "-subj", "/CN=localhost", "-keyout", folder / f"{name}.key", "-out", request)
    extensions.write_text("subjectAltName = DNS:localhost, IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", request, "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", extensions, "-out", folder / f"{name}.pem")  # fmt: skip


RSA = ("-newkey", "rsa:2048")
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


class TlsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        make_ca(cls.folder)
        make_certificate(cls.folder, "server", *RSA)
        make_certificate(cls.folder, "other", *RSA)
        make_certificate(cls.folder, "curve", *EC)
        cls.trust = ssl.create_default_context(cafile=str(cls.folder / "ca.pem"))
        cls.server = cls.enterClassContext(cls.start("server", "--max-num-seqs", "8", "--max-model-len", "8192", "--max-body-bytes", "100000"))
        cls.http = cls.enterClassContext(httpx.Client(base_url=cls.server.url, timeout=120, verify=cls.trust))

    @classmethod
    def start(cls, name, *flags):
        return Server("--ssl-certfile", str(cls.folder / f"{name}.pem"), "--ssl-keyfile", str(cls.folder / f"{name}.key"), *flags)

    def connect(self, server=None):
        host, port = (server or self.server).url.removeprefix("https://").split(":")
        return socket.create_connection((host, int(port)), timeout=60)

    def connect_tls(self, server=None, trust=None):
        return (trust or self.trust).wrap_socket(self.connect(server), server_hostname="localhost")

    def test_the_openai_package_whole_and_streamed(self):
        client = openai.OpenAI(base_url=self.server.url + "/v1", api_key="none", http_client=httpx.Client(verify=self.trust, timeout=120))
        parameters = {"model": "demo", "messages": MESSAGES, "temperature": 0, "max_tokens": 200}
        whole = client.chat.completions.create(**parameters).choices[0].message
        chunks = list(client.chat.completions.create(stream=True, **parameters))
        for field in ("content", "reasoning"):
            streamed = "".join(getattr(c.choices[0].delta, field, None) or "" for c in chunks)
            self.assertEqual(streamed, getattr(whole, field) or "")
            self.assertTrue(streamed)
        with self.assertRaises(openai.APIConnectionError):  # nobody vouches for the certificate
            openai.OpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0).models.list()

    def test_versions(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            trust = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
            trust.minimum_version = trust.maximum_version = version
            with self.connect_tls(trust=trust) as tls:
                tls.sendall(REQUEST)
                self.assertTrue(tls.recv(4096).startswith(b"HTTP/1.1 200"))
        old = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaisesRegex(ssl.SSLError, "(?i)protocol.version"):
            self.connect_tls(trust=old)

    def test_a_stream_of_http_1_0_ends_with_a_goodbye(self):
        body = b'{"model": "demo", "prompt": "Hello", "max_tokens": 3, "ignore_eos": true, "stream": true}'
        with self.connect_tls() as tls:
            tls.sendall(b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            # A connection that ended without TLS's goodbye would raise.
            answer = b"".join(iter(lambda: tls.recv(65536), b""))
        self.assertTrue(answer.endswith(b"data: [DONE]\n\n"), answer)

    def test_a_refused_body_does_not_lose_the_answer(self):
        with self.connect_tls() as tls:
            tls.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 4_000_000)
            self.assertTrue(tls.recv(65536).startswith(b"HTTP/1.1 413"))

    def test_a_client_that_leaves_frees_its_place(self):
        body = {"model": "demo", "messages": MESSAGES, "max_tokens": 8000, "ignore_eos": True, "stream": True}
        with self.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            lines = reply.iter_lines()  # kept: a dropped iterator closes the connection
            next(lines)
        for _ in range(200):
            metrics = self.http.get("/metrics").text
            running = [line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running")]
            if running and float(running[0].split()[-1]) == 0:
                return
            time.sleep(0.05)
        self.fail("the request still runs")

    def test_plain_http_and_noise_are_turned_away(self):
        for sent in (REQUEST, b"\x16\x03\x01\xff\xff" + b"\x00" * 70000, bytes(range(256)) * 8):
            with self.connect() as plain:
                plain.sendall(sent)
                try:
                    answer = b"".join(iter(lambda: plain.recv(65536), b""))
                except ConnectionResetError:
                    answer = b""
            self.assertNotIn(b"HTTP/1.1 200", answer)
        self.assertEqual(self.http.get("/health").status_code, 200)

    def test_a_handshake_that_is_never_finished_ends_and_holds_nobody(self):
        with self.connect() as slow, self.connect() as silent:
            slow.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a hello
            begin = time.monotonic()
            self.assertEqual(self.http.get("/health").status_code, 200)
            self.assertLess(time.monotonic() - begin, HANDSHAKE_TIMEOUT_S / 2)
            for held in (slow, silent):
                self.assertEqual(held.recv(4096), b"")
            self.assertLess(time.monotonic() - begin, HANDSHAKE_TIMEOUT_S + 5)

    def test_handshakes_count_as_connections(self):
        with self.start("curve", "--max-connections", "2") as server:
            with self.connect(server), self.connect_tls(server) as tls:
                tls.sendall(REQUEST)
                self.assertTrue(tls.recv(4096).startswith(b"HTTP/1.1 200"))
                with self.assertRaises((ssl.SSLError, ConnectionError)):
                    self.connect_tls(server)
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)

    def test_a_termination_lets_streams_end(self):
        with self.start("server") as server, httpx.Client(base_url=server.url, timeout=120, verify=self.trust) as http:
            body = {"model": "demo", "messages": MESSAGES, "max_tokens": 200, "ignore_eos": True, "stream": True}
            with http.stream("POST", "/v1/chat/completions", json=body) as reply, self.connect(server):
                lines = reply.iter_lines()
                next(lines)
                server.signal(signal.SIGTERM)
                rest = list(lines)
            self.assertEqual(rest[-2], "data: [DONE]")
            self.assertEqual(server.wait(), 0)


class TlsFilesTest(unittest.TestCase):
    def serve(self, *flags):
        command = [os.environ["NEMOFORGE_BINARY"], "serve", "--model", MODEL, "--port", "0", *flags]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    def test_wrong_files_are_named(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        make_ca(folder)
        make_certificate(folder, "a", *RSA)
        make_certificate(folder, "b", *RSA)
        make_certificate(folder, "curve", *EC)
        openssl("pkey", "-in", folder / "a.key", "-aes128", "-passout", "pass:secret", "-out", folder / "locked.key")
        (folder / "noise").write_bytes(bytes(range(256)))
        for certificate, key, message in (
            ("none.pem", "a.key", "none.pem"),
            ("a.pem", "none.key", "none.key"),
            (".", "a.key", "regular file"),
            ("noise", "a.key", "noise holds no certificate"),
            ("a.key", "a.key", "a.key holds no certificate"),
            ("a.pem", "noise", "noise holds no private key"),
            ("a.pem", "a.pem", "a.pem holds no private key"),
            ("a.pem", "locked.key", "locked.key is encrypted"),
            ("a.pem", "b.key", "b.key is not that of the certificate in"),
            ("a.pem", "curve.key", "curve.key is not that of the certificate in"),
        ):
            with self.subTest(certificate=certificate, key=key):
                done = self.serve("--ssl-certfile", folder / certificate, "--ssl-keyfile", folder / key)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(message, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertEqual(self.serve("--ssl-certfile", folder / "a.pem").returncode, 2)
        self.assertEqual(self.serve("--ssl-keyfile", folder / "a.key").returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
