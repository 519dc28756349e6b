"""`nemoforge forge` from outside: a whole round with a model, a sandbox and training, interrupted once."""

import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ["NEMOFORGE_BINARY"]
BUNDLED = ROOT / "problems" / "bundled"


class ForgeTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.problems = self.folder / "problems"
        self.problems.mkdir()
        self.round = self.folder / "round"

    def arguments(self, *flags):
        # Greedy, so that the demo checkpoint's answers, right ones here, are the same everywhere.
        return [BINARY, "forge", "--model", str(ROOT / "models" / "demo"), "--problems", str(self.problems), "--out", str(self.round),
                "--samples", "1", "--temperature", "0", *flags]

    def add_problem(self, name):
        shutil.copy(BUNDLED / f"{name}.py", self.problems)

    def rows(self, query):
        with sqlite3.connect(self.round / "before" / "run.sqlite") as database:
            return database.execute(query).fetchall()

    def test_a_round_that_was_interrupted_goes_on_to_its_report(self):
        self.add_problem("train_02")
        self.add_problem("held_out_18")
        process = subprocess.Popen(self.arguments(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not process.stdout.readline().startswith("$ nemoforge verify"):
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=300)
        self.assertEqual(process.returncode, 1, words)
        self.assertIn("run the same command again", words)
        self.assertFalse((self.round / "report.json").exists())
        traces = self.rows("select id, problem_id, finished_ms from traces order by id")
        self.assertEqual(len(traces), 2)

        done = subprocess.run(self.arguments("--", "--max-steps", "1"), capture_output=True, text=True, timeout=600, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.rows("select id, problem_id, finished_ms from traces order by id"), traces)
        self.assertEqual(self.rows("select count(*), count(distinct trace_id) from verdicts"), [(2, 2)])
        report = json.loads((self.round / "report.json").read_text())
        self.assertEqual(report["num_problems"], 1)
        self.assertEqual(report["pass_at_1_before"], 1)
        self.assertEqual(report["problems"]["held_out_18"]["before"], [1, 1])
        self.assertEqual(report["problems"]["held_out_18"]["after"][1], 1)
        data = [json.loads(line) for line in (self.round / "sft.jsonl").read_text().splitlines()]
        self.assertEqual([row["problem_id"] for row in data], ["train_02"])
        self.assertTrue((self.round / "adapter" / "adapter_model.safetensors").exists())

    def test_problems_of_one_side_only_are_an_error_before_anything_runs(self):
        self.add_problem("train_02")
        done = subprocess.run(self.arguments(), capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--held-out 'held_out' matches 0 of the 1 problems", done.stderr)
        self.assertFalse(self.round.exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
