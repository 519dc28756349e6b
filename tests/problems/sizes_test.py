"""nemoforge problems tells problems apart by what they need, and verify and trace keep to what it says."""

import json
import os
import pathlib
import subprocess
import tempfile
import textwrap
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ["NEMOFORGE_BINARY"]

PROBLEM = """
import torch
import torch.nn as nn

{constants}

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        {init}

    def forward(self, x):
        return {result}

def get_inputs():
    return [{inputs}]

def get_init_inputs():
    return []
"""

# The constant sets the width of the parameters too, so that judging cannot shrink it.
PROBLEMS = {
    "ok": ("", "self.scale = nn.Parameter(torch.rand(64))", "x * self.scale", "torch.rand(8, 64)"),
    "shrunk": ("rows = 1 << 20", "pass", "torch.relu(x)", "torch.rand(rows, 256)"),
    # A value decides, and the meta device has none.
    "looks_at_values": ("", "pass", "x * 2 if float(x.sum()) > 0 else x", "torch.rand(1024, 2048)"),
    "too_many_products": ("", "self.weight = nn.Parameter(torch.rand(2048, 2048))", "x @ self.weight", "torch.rand(2048, 2048)"),
    "too_many_bytes": ("", "self.weight = nn.Parameter(torch.rand(1 << 15, 1 << 14))", "x @ self.weight", "torch.rand(4, 1 << 15)"),
    "broken": ("", "self.weight = nn.Parameter(torch.rand(7, 7))", "x @ self.weight", "torch.rand(8, 64)"),
}
CLASSES = {"ok": "ok", "shrunk": "ok", "looks_at_values": "ok", "too_many_products": "too_large_for_cpu",
           "too_many_bytes": "too_large_for_memory", "broken": "does_not_build"}
# Honest, and of no use: the problem's size is told before it runs.
CANDIDATE = "import time\nwhile True:\n    time.sleep(1)\nclass ModelNew:\n    pass\n"


def nemoforge(*arguments):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=600)


class SizesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.root = pathlib.Path(cls.folder.name)
        for name, (constants, init, result, inputs) in PROBLEMS.items():
            text = PROBLEM.format(constants=constants, init=init, result=result, inputs=inputs)
            (cls.root / f"{name}.py").write_text(textwrap.dedent(text))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_each_class_is_found(self):
        listed = nemoforge("problems", "--problems", self.root, "--memory-gib", 8, "--workers", 2, "--json")
        self.assertEqual(listed.returncode, 1, listed.stderr)
        self.assertIn("1 of 6 problems do not build", listed.stderr)
        *rows, totals = map(json.loads, listed.stdout.splitlines())
        found = {row["problem"]: row for row in rows}
        self.assertEqual({name: row["class"] for name, row in found.items()}, CLASSES)
        self.assertEqual(totals["classes"], {"ok": 3, "too_large_for_cpu": 1, "too_large_for_memory": 1, "does_not_build": 1})
        self.assertEqual(found["ok"]["judged"]["parameters"], 64)
        self.assertEqual(found["ok"]["judged"]["input_bytes"], 8 * 64 * 4)
        self.assertEqual(found["ok"]["judged"]["dtypes"], ["float32"])
        self.assertEqual(found["shrunk"]["full"]["input_bytes"], (1 << 28) * 4)
        self.assertLess(found["shrunk"]["judged"]["input_bytes"], 1 << 20)
        self.assertEqual(list(found["shrunk"]["overrides"]), ["rows"])
        self.assertEqual(found["looks_at_values"]["judged"]["measured_on"], "cpu")
        self.assertEqual(found["too_many_products"]["judged"]["flops"], 2 * 2048**3)
        self.assertEqual(found["too_many_products"]["judged"]["measured_on"], "meta")
        self.assertEqual(found["too_many_bytes"]["judged"]["state_bytes"], 4 << 29)
        self.assertNotIn("\n", found["broken"]["reason"])
        self.assertIn("RuntimeError", found["broken"]["reason"])

    def test_limits_are_the_callers(self):
        listed = nemoforge("problems", "--problems", self.root, "--filter", "^too_many_products$", "--timeout-s", 100000)
        self.assertEqual(listed.returncode, 0, listed.stderr)
        self.assertRegex(listed.stdout, r"too_many_products +ok")
        self.assertIn("1 problems in", listed.stdout)

    def test_verify_says_so_before_the_candidate_runs(self):
        candidate = self.root / "candidate.txt"
        candidate.write_text(CANDIDATE)
        for name in ("too_many_products", "too_many_bytes"):
            judged = nemoforge("verify", "--problem", self.root / f"{name}.py", "--candidate", candidate, "--json")
            record = json.loads(judged.stdout)
            self.assertEqual(record["verdict"], "not_verified", record)
            self.assertEqual(record["tags"], ["problem_too_large", CLASSES[name]])
            self.assertTrue(record["detail"].startswith("problem_too_large: "), record["detail"])
            self.assertGreater(record["needs"]["memory_bytes"], 1 << 30)
            self.assertNotIn("calls", record)

    def test_trace_warns(self):
        traced = nemoforge("trace", "--model", ROOT / "models" / "demo", "--problems", self.root, "--filter", "^too_many",
                           "--run", self.root / "run", "--samples", 1, "--max-tokens", 8)
        self.assertEqual(traced.returncode, 0, traced.stderr)
        self.assertRegex(traced.stderr, r"[12] of [12] problems.* cannot be verified on this machine")

    def test_all_bundled_problems_can_be_verified(self):
        listed = nemoforge("problems", "--problems", ROOT / "problems" / "bundled", "--json")
        self.assertEqual(listed.returncode, 0, listed.stderr)
        self.assertEqual(json.loads(listed.stdout.splitlines()[-1])["classes"], {"ok": 48})


if __name__ == "__main__":
    unittest.main(verbosity=2)
