#!/usr/bin/env python3
"""nemoforge verify-worker and nemoforge verify --backend http, as two machines would use them: real processes, real
sockets, a real candidate; hostile requests; workers that are lost in the middle of a job."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ["NEMOFORGE_BINARY"]
KEY = "key-of-the-test"
HONEST = ROOT / "data" / "verify" / "honest"
PROBLEM = (HONEST / "problems" / "hp01_add.py").read_text()
CANDIDATE = (HONEST / "h01_add.py").read_text()
SMALL = {"rows": 9, "cols": 7}
# Takes as long as a candidate may: until its worker is killed.
SLEEPER = "import time\nclass ModelNew:\n    pass\nwhile True:\n    time.sleep(0.2)\n"


class Worker:
    """A worker process on a port of its own."""

    def __init__(self, *flags, key=KEY):
        environment = {**os.environ, "NEMOFORGE_API_KEY": key}
        self.process = subprocess.Popen([BINARY, "verify-worker", "--port", "0", "--workers", "1", *flags],
                                        stderr=subprocess.PIPE, text=True, env=environment)
        for line in self.process.stderr:
            found = re.search(r"verifying at http://[^:]+:(\d+)", line)
            if found:
                break
        else:
            raise AssertionError("the worker ended before it listened")
        self.port = int(found.group(1))
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = threading.Thread(target=self.process.stderr.read, daemon=True)
        self.log.start()

    def ask(self, method, path, body=None, key=KEY, timeout=200):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.request(method, path, body, {"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        answer = response.status, response.read().decode(), dict(response.getheaders())
        connection.close()
        return answer

    def health(self):
        return json.loads(self.ask("GET", "/health", key=None)[1])

    def wait_until(self, condition):
        """Waits for a state of the worker that it reports itself."""
        deadline = time.monotonic() + 120
        while not condition(self.health()):
            if time.monotonic() > deadline:
                raise AssertionError(f"the worker is at {self.health()}")
            time.sleep(0.05)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.join()
        self.process.stderr.close()


def job(candidate=CANDIDATE):
    return json.dumps({"problem": PROBLEM, "candidate": candidate, "overrides": SMALL})


class VerifyWorkerTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "problem.py").write_text(PROBLEM)
        (self.folder / "candidate.py").write_text(CANDIDATE)
        (self.folder / "overrides.json").write_text(json.dumps(SMALL))
        (self.folder / "key").write_text(KEY + "\n")

    def worker(self, *flags):
        worker = Worker(*flags)
        self.addCleanup(worker.stop)
        return worker

    def command(self, *flags):
        return [BINARY, "verify", "--json", "--problem", str(self.folder / "problem.py"), "--candidate",
                str(self.folder / "candidate.py"), "--overrides", str(self.folder / "overrides.json"), *flags]

    def remote(self, *workers):
        urls = [flag for worker in workers for flag in ("--backend-url", worker.url)]
        return ["--backend", "http", "--backend-key-file", str(self.folder / "key"), *urls]

    def test_the_record_is_that_of_the_local_backend(self):
        worker = self.worker()
        local = subprocess.run(self.command(), capture_output=True, text=True, check=True).stdout
        remote = subprocess.run(self.command(*self.remote(worker)), capture_output=True, text=True, check=True).stdout
        local, remote = json.loads(local), json.loads(remote)
        self.assertEqual(remote["verdict"], "correct_cpu")
        self.assertEqual(list(local), list(remote))
        for name in ("correct", "device", "sandboxed", "overrides", "verifier", "tags", "stage", "versions", "kernels"):
            self.assertEqual(local[name], remote[name], name)
        # And it crosses as text, which the client stores as it is.
        status, body, _ = worker.ask("POST", "/v1/verify", job())
        self.assertEqual(status, 200, body)
        self.assertEqual(json.loads(json.loads(body)["record"])["verdict"], "correct_cpu")
        self.assertEqual(worker.health()["verdicts"], 2)

    def test_hostile_requests_are_refused(self):
        worker = self.worker("--max-body-bytes", "100000")
        self.assertEqual(worker.ask("POST", "/v1/verify", job(), key=None)[0], 401)
        self.assertEqual(worker.ask("POST", "/v1/verify", job(), key=KEY + "x")[0], 401)
        for body in ("", "{", "[]", '{"problem": 1, "candidate": ""}', '{"problem": ""}', "[" * 5000,
                     '{"problem": "", "candidate": "", "overrides": []}', '{"problem": "", "candidate": "", "more": 1}',
                     '{"problem": "", "candidate": "\\ud800"}'):
            self.assertEqual(worker.ask("POST", "/v1/verify", body)[0], 400, body[:60])
        self.assertEqual(worker.ask("POST", "/v1/verify", "x" * 100001)[0], 413)
        self.assertEqual(worker.ask("GET", "/v1/verify")[0], 405)
        self.assertEqual(worker.ask("POST", "/v1/other", "{}")[0], 404)
        with socket.create_connection(("127.0.0.1", worker.port)) as connection:
            connection.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
            self.assertIn(b"400", connection.recv(4096))
        self.assertEqual(worker.health()["status"], "ok")

    def test_a_wrong_key_and_an_absent_worker_end_the_command(self):
        worker = self.worker()
        (self.folder / "key").write_text("wrong")
        done = subprocess.run(self.command(*self.remote(worker)), capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("401", done.stderr)
        worker.stop()
        done = subprocess.run(self.command(*self.remote(worker)), capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("no verification worker answers", done.stderr)
        done = subprocess.run([BINARY, "verify-worker", "--host", "0.0.0.0", "--port", "0"], capture_output=True, text=True,
                              env={k: v for k, v in os.environ.items() if k != "NEMOFORGE_API_KEY"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("API key", done.stderr)

    def test_the_queue_is_bounded_and_a_signal_drains(self):
        worker = self.worker("--max-queue", "1")
        answers = {}

        def post(name, candidate):
            answers[name] = worker.ask("POST", "/v1/verify", job(candidate))

        running = threading.Thread(target=post, args=("running", CANDIDATE + "\nimport time\ntime.sleep(15)\n"))
        running.start()
        worker.wait_until(lambda health: health["running"] == 1)
        waiting = threading.Thread(target=post, args=("waiting", CANDIDATE))
        waiting.start()
        worker.wait_until(lambda health: health["waiting"] == 1)
        status, _, headers = worker.ask("POST", "/v1/verify", job())
        self.assertEqual(status, 429)
        self.assertIn("Retry-After", headers)
        worker.process.send_signal(signal.SIGTERM)
        waiting.join()
        running.join()
        self.assertEqual(answers["waiting"][0], 503)  # for another worker to take
        self.assertEqual(answers["running"][0], 200, answers["running"][1])
        self.assertEqual(worker.process.wait(timeout=60), 0)

    def test_a_job_whose_worker_is_lost_gets_its_verdict_from_another(self):
        first, second = self.worker(), self.worker()
        (self.folder / "candidate.py").write_text(CANDIDATE + "\nimport time\ntime.sleep(5)\n")
        client = subprocess.Popen(self.command(*self.remote(first, second)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True)
        deadline = time.monotonic() + 120
        while not (busy := [w for w in (first, second) if w.health()["running"]]):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        busy[0].process.kill()
        out, err = client.communicate(timeout=200)
        self.assertEqual(client.returncode, 0, err)
        self.assertEqual(json.loads(out)["verdict"], "correct_cpu")
        self.assertIn("goes on elsewhere", err)

    def test_a_job_is_no_verdict_where_every_worker_is_lost(self):
        worker = self.worker()
        (self.folder / "candidate.py").write_text(SLEEPER)
        client = subprocess.Popen(self.command(*self.remote(worker), "--backend-patience-s", "1"), stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        worker.wait_until(lambda health: health["running"] == 1)
        worker.process.kill()
        out, err = client.communicate(timeout=120)
        self.assertEqual((client.returncode, out), (1, ""), err)
        self.assertIn("no verification worker answers", err)


if __name__ == "__main__":
    unittest.main()
