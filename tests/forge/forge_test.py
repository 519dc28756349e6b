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
        found = []
        for run in ("before", "round_1/training"):
            if (self.round / run).exists():
                with sqlite3.connect(self.round / run / "run.sqlite") as database:
                    found += database.execute(query).fetchall()
        return found

    def finish(self, *flags):
        return subprocess.run(self.arguments(*flags), capture_output=True, text=True, timeout=600, check=False)

    def run_until(self, line, *flags, signal_number):
        process = subprocess.Popen(self.arguments(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not process.stdout.readline().startswith(line):
            self.assertIsNone(process.poll())
        process.send_signal(signal_number)
        _, words = process.communicate(timeout=300)
        return process.returncode, words

    def test_a_round_that_was_interrupted_goes_on_to_its_report(self):
        self.add_problem("train_02")
        self.add_problem("held_out_18")
        flags = ("--", "--max-steps", "1")
        returncode, words = self.run_until("$ nemoforge verify", *flags, signal_number=signal.SIGINT)
        self.assertEqual(returncode, 1, words)
        self.assertIn("run the same command again", words)
        self.assertFalse((self.round / "report.json").exists())
        traces = self.rows("select id, problem_id, finished_ms from traces order by id")
        self.assertEqual([problem for _, problem, _ in traces], ["held_out_18"])

        changed = self.finish("--", "--max-steps", "2")
        self.assertEqual(changed.returncode, 1)
        self.assertIn('finetune flags was ["--max-steps","1"], now ["--max-steps","2"]', changed.stderr)

        returncode, words = self.run_until("$ nemoforge finetune", "--resume", *flags, signal_number=signal.SIGKILL)
        self.assertEqual(returncode, -signal.SIGKILL, words)
        traces += self.rows("select id, problem_id, finished_ms from traces order by id")[1:]
        done = self.finish(*flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("5 of 8 stages are done", done.stdout)
        self.assertEqual(self.rows("select id, problem_id, finished_ms from traces order by id"), traces)
        self.assertEqual(self.rows("select count(*), count(distinct trace_id) from verdicts"), [(1, 1), (1, 1)])
        report = json.loads((self.round / "report.json").read_text())
        self.assertEqual(report["num_problems"], 1)
        self.assertEqual(report["pass_at_1_before"], 1)
        self.assertEqual(report["problems"]["held_out_18"]["before"], [1, 1])
        self.assertEqual(report["problems"]["held_out_18"]["after"][1], 1)
        self.assertEqual([(r["round"], r["num_traces"], r["num_correct"], r["num_rows"]) for r in report["rounds"]], [(1, 1, 1, 1)])
        data = [json.loads(line) for line in (self.round / "round_1" / "sft.jsonl").read_text().splitlines()]
        self.assertEqual([row["problem_id"] for row in data], ["train_02"])
        self.assertTrue((self.round / "round_1" / "adapter" / "adapter_model.safetensors").exists())

        # Once more: nothing is left to do, the report stands.
        written = (self.round / "report.json").read_bytes()
        again = self.finish(*flags)
        self.assertIn("8 of 8 stages are done", again.stdout)
        self.assertNotIn("$ nemoforge", again.stdout)
        self.assertEqual((self.round / "report.json").read_bytes(), written)

    def test_a_second_round_samples_its_own_problems_with_the_first_ones_adapter(self):
        for name in ("train_02", "train_04", "held_out_18"):
            self.add_problem(name)
        done = self.finish("--rounds", "2", "--measure", "last", "--max-tokens", "1200", "--", "--max-steps", "1")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        sampled = []
        for name in ("round_1", "round_2"):
            with sqlite3.connect(self.round / name / "training" / "run.sqlite") as database:
                sampled += database.execute("select problem_id, adapter <> '' from traces").fetchall()
        self.assertEqual(sorted(problem for problem, _ in sampled), ["train_02", "train_04"])
        self.assertEqual([adapted for _, adapted in sampled], [0, 1])
        self.assertFalse((self.round / "round_1" / "held_out").exists())
        report = json.loads((self.round / "report.json").read_text())
        self.assertEqual([r["num_rows"] for r in report["rounds"]], [1, 2])
        self.assertNotIn("pass_at_1", report["rounds"][0])
        self.assertIn("round 2", done.stdout)

    def test_a_wrong_command_line_is_an_error_before_anything_runs(self):
        self.add_problem("train_02")
        self.add_problem("held_out_18")
        for flags, code, words in (
            (["--", "--epochz", "3"], 2, "--epochz"),
            (["--rounds", "2"], 1, "has 1 training problems, too few for 2 rounds"),
            (["--resume"], 1, "to continue"),
        ):
            done = self.finish(*flags)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(words, done.stderr)
            self.assertFalse(self.round.exists())

    def test_problems_of_one_side_only_are_an_error_before_anything_runs(self):
        self.add_problem("train_02")
        done = subprocess.run(self.arguments(), capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--held-out 'held_out' matches 0 of the 1 problems", done.stderr)
        self.assertFalse(self.round.exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
