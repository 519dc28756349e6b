"""`nemoforge trace` against several `nemoforge serve` processes: one is killed and comes back, then the tracer is killed."""

import array
import contextlib
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ["NEMOFORGE_BINARY"]
DEMO = str(ROOT / "models" / "demo")
NUM_PROBLEMS = 4
NUM_SAMPLES = 120  # some seconds of work for two servers, so that one can leave and return within it
TIMEOUT_S = 300


class Process:
    """A command whose words on standard error can be waited for."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([BINARY, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.words = ""
        self.has_ended = False
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            with self.changed:
                self.words += line
                self.changed.notify_all()
        with self.changed:
            self.has_ended = True
            self.changed.notify_all()

    def wait_for(self, pattern):
        with self.changed:
            self.changed.wait_for(lambda: self.has_ended or re.search(pattern, self.words), TIMEOUT_S)
            found = re.search(pattern, self.words)
            if not found:
                raise AssertionError(f"{pattern} was never said: {self.words}")
            return found

    def end(self, number=None):
        """The exit code."""
        if number and self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(TIMEOUT_S)
        self.reader.join()
        self.process.stderr.close()
        return code


class EndpointsTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.problems = self.folder / "problems"
        self.problems.mkdir()
        for i in range(NUM_PROBLEMS):
            shutil.copy(ROOT / "problems" / "bundled" / f"train_{i:02}.py", self.problems)

    def serve(self, port=0):
        server = Process("serve", "--model", DEMO, "--device", "cpu", "--port", port)
        self.addCleanup(server.end, signal.SIGKILL)
        server.port = int(server.wait_for(r"serving .* at http://[^ ]*:(\d+) ").group(1))
        server.url = f"http://127.0.0.1:{server.port}"
        return server

    def arguments(self, run, num_samples=NUM_SAMPLES):
        return ["trace", "--problems", self.problems, "--run", self.folder / run, "--samples", num_samples, "--max-tokens", "64", "--seed", "7", "--resume"]

    def traces(self, run):
        query = ("select problem_id, sample_idx, id, finished_ms, endpoint, completion_token_ids, completion_logprobs, num_completion_tokens, "
                 "prompt_token_ids, answer, reasoning, checkpoint_hash, template_hash from traces")
        with contextlib.closing(sqlite3.connect(self.folder / run / "run.sqlite")) as database:
            return {row[:2]: row[2:] for row in database.execute(query)}

    def wait_for_traces(self, run, is_enough):
        """Until the run's rows of (endpoint, finished_ms) are enough; there may be no run yet."""
        deadline = time.monotonic() + TIMEOUT_S
        rows = []
        while not is_enough(rows):
            self.assertLess(time.monotonic(), deadline)
            threading.Event().wait(0.05)
            with contextlib.suppress(sqlite3.OperationalError):
                with contextlib.closing(sqlite3.connect(f"file:{self.folder / run / 'run.sqlite'}?mode=ro", uri=True)) as database:
                    rows = database.execute("select endpoint, finished_ms from traces").fetchall()

    def test_endpoints_leave_and_return_and_the_tracer_is_killed(self):
        leaving, staying = self.serve(), self.serve()
        tracer = Process(*self.arguments("run"), "--endpoint", leaving.url, "--endpoint", staying.url, "--concurrency", "4")
        self.addCleanup(tracer.end, signal.SIGKILL)
        leaving_url = f"{leaving.url}/v1"
        self.wait_for_traces("run", lambda rows: any(endpoint == leaving_url for endpoint, _ in rows))
        leaving.end(signal.SIGKILL)
        tracer.wait_for(f"{leaving_url} does not answer")
        self.serve(leaving.port)
        returned_ms = time.time() * 1000
        tracer.wait_for(f"{leaving_url} answers again")
        self.wait_for_traces("run", lambda rows: any(endpoint == leaving_url and finished_ms > returned_ms for endpoint, finished_ms in rows))
        tracer.end(signal.SIGKILL)
        stored = self.traces("run")
        self.assertLess(len(stored), NUM_PROBLEMS * NUM_SAMPLES, "killed in the middle")

        again = Process(*self.arguments("run"), "--endpoint", leaving.url, "--endpoint", staying.url)
        self.assertEqual(again.end(), 0, again.words)
        traces = self.traces("run")
        self.assertEqual(len(traces), NUM_PROBLEMS * NUM_SAMPLES)
        self.assertEqual({key: traces[key] for key in stored}, stored, "what was stored stays as it was")
        self.assertEqual({row[2] for row in traces.values()}, {leaving_url, f"{staying.url}/v1"})
        for _, _, _, ids, logprobs, num_tokens, prompt_ids, *_ in traces.values():
            self.assertEqual(len(array.array("i", ids)), num_tokens)
            self.assertEqual(len(array.array("f", logprobs)), num_tokens)
            self.assertTrue(prompt_ids)

        # Which endpoint answered does not matter, nor whether there was one: the hashes of what answered are the same.
        here = Process(*self.arguments("here", 2), "--model", DEMO, "--device", "cpu")
        self.assertEqual(here.end(), 0, here.words)
        for key, (_, _, endpoint, *sampled) in self.traces("here").items():
            self.assertEqual(endpoint, "")
            self.assertTrue(all(sampled[-2:]), "hashes")
            self.assertEqual(sampled, list(traces[key][3:]), key)


if __name__ == "__main__":
    unittest.main(verbosity=2)
