"""test-server, bench serve and launch from outside, against the real server on the demo checkpoint."""

import http.server
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import unittest

from server_process import Server

BINARY = os.environ["NEMOFORGE_BINARY"]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=300)


class NotAModel(http.server.BaseHTTPRequestHandler):
    """A web server that is no OpenAI endpoint."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html></html>")

    do_POST = do_GET

    def log_message(self, *_):
        pass


class Careless(http.server.BaseHTTPRequestHandler):
    """Has the shape of an OpenAI endpoint, and heeds neither tools nor budgets; its errors are a message alone."""

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.answer(200, {"data": [{"id": "m"}]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            request = json.loads(body)
        except ValueError:
            return self.answer(400, {"error": {"message": "not JSON"}})
        if isinstance(request["temperature"], str) or request["model"] != "m":
            return self.answer(400, {"error": {"message": "temperature: no-such-model"}})
        message = {"role": "assistant", "content": "5", "reasoning": "two and three"}
        usage = {"completion_tokens": 45, "completion_tokens_details": {"reasoning_tokens": 40}}
        self.answer(200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

    def log_message(self, *_):
        pass


class RemoteCommandsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server("--max-num-seqs", "8", "--max-model-len", "2048", "--api-key", "secret"))

    def test_our_own_server_passes(self):
        done = run("test-server", self.server.url + "/v1", "--api-key", "secret", "--json")
        report = json.loads(done.stdout)
        self.assertEqual(report["num_failed"], 0, done.stdout)
        self.assertGreaterEqual(report["num_checks"], 12)
        self.assertEqual((done.returncode, report["model"]), (0, "demo"))

    def test_what_fails_is_named_and_exits_with_1(self):
        done = run("test-server", self.server.url, "--api-key", "wrong")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"(?m)^pass  health")
        self.assertRegex(done.stdout, r"(?m)^FAIL  models .*expected status 200, found 401")
        other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotAModel)
        threading.Thread(target=other.serve_forever, daemon=True).start()
        done = run("test-server", f"http://127.0.0.1:{other.server_port}", "--json")
        other.shutdown()
        other.server_close()
        report = json.loads(done.stdout)
        self.assertEqual((done.returncode, report["num_failed"]), (1, report["num_checks"] - 1))
        done = run("test-server", "http://127.0.0.1:9")
        self.assertEqual(done.returncode, 1)
        self.assertIn("0 of", done.stdout)

    def test_a_server_that_only_looks_right_fails(self):
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Careless) as other:
            threading.Thread(target=other.serve_forever, daemon=True).start()
            done = run("test-server", f"http://127.0.0.1:{other.server_port}", "--json")
            other.shutdown()
        checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
        self.assertTrue(checks["models"]["passed"] and checks["chat, thinking on"]["passed"], checks)
        for name, why in [
            ("tools", "nothing was called"),
            ("thinking budget", "40 for one of 0"),
            ("error: wrong type", "error.type"),
            ("error: unknown model", "error.type"),
            ("error: not JSON", "error.type"),
        ]:
            self.assertFalse(checks[name]["passed"], name)
            self.assertIn(why, checks[name]["detail"])

    def test_a_sweep_has_vllms_names(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "results.json"
            done = run("bench", "serve", "--base-url", self.server.url, "--api-key", "secret", "--num-prompts", "6",
                       "--random-input-len", "10", "--random-output-len", "12", "--ignore-eos", "--max-concurrency", "1,3",
                       "--request-rate", "inf,50", "--json", "--result-filename", str(file))  # fmt: skip
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            results = [json.loads(line) for line in done.stdout.splitlines()]
            self.assertEqual(json.loads(file.read_text()), results)
        self.assertEqual([(r["max_concurrency"], r["request_rate"]) for r in results], [(1, "inf"), (1, 50), (3, "inf"), (3, 50)])
        for result in results:
            self.assertEqual((result["completed"], result["failed"], result["total_output_tokens"]), (6, 0, 72))
            self.assertGreater(result["total_input_tokens"], 60)
            self.assertAlmostEqual(result["output_throughput"], 72 / result["duration"])
            for name in ("ttft", "tpot", "itl", "e2el"):
                self.assertLess(0, result[f"median_{name}_ms"])
                self.assertLessEqual(result[f"p50_{name}_ms"], result[f"p99_{name}_ms"])
            self.assertLess(result["mean_ttft_ms"], result["mean_e2el_ms"])

    def test_a_table_and_the_completions_backend(self):
        done = run("bench", "serve", "--base-url", self.server.url, "--api-key", "secret", "--backend", "openai",
                   "--num-prompts", "2", "--random-output-len", "4", "--ignore-eos")  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(done.stdout.splitlines()), 2)

    def test_an_answer_without_text_is_an_answer(self):
        # Among the first tokens after random words are pieces of characters, which no event shows.
        done = run("bench", "serve", "--base-url", self.server.url, "--api-key", "secret", "--backend", "openai",
                   "--num-prompts", "64", "--max-concurrency", "8", "--random-input-len", "8", "--random-output-len",
                   "1", "--ignore-eos", "--seed", "3", "--json")  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertEqual((result["completed"], result["failed"], result["total_output_tokens"]), (64, 0, 64))

    def test_a_load_that_nobody_answers_is_an_error(self):
        done = run("bench", "serve", "--base-url", self.server.url, "--model", "demo", "--api-key", "wrong")
        self.assertEqual(done.returncode, 1)
        self.assertIn("status 401", done.stderr)
        self.assertEqual(run("bench", "serve", "--base-url", self.server.url, "--request-rate", "0").returncode, 2)

    def test_launch_prints_a_line_for_a_shell(self):
        done = run("launch", "vllm", "--dtype", "FP8", "--max-model-len", "1M", "--dry-run", "--", "--seed", "0")
        self.assertEqual(done.returncode, 0)
        words = done.stdout.replace("\\\n", "").split()
        self.assertIn("VLLM_ALLOW_LONG_MAX_MODEL_LEN=1", words)
        self.assertEqual(words[-2:], ["--seed", "0"])
        self.assertEqual(run("launch", "sglang", "--dtype", "FP16", "--dry-run").returncode, 2)


if __name__ == "__main__":
    unittest.main()
