"""Greedy answers of a device to the bundled problems, token for token next to the CPU's.

    device_agreement.py [--device cuda] [--dtype fp32] [--cpu-dtype fp32] [--least 0.99] [--filter REGEX]

A token counts as equal where both answers have the same one at the same place, so that one different choice costs the
rest of its answer. Fails below --least. NEMOFORGE_BINARY names the program (build/release/nemoforge).
"""

import argparse
import array
import contextlib
import os
import pathlib
import sqlite3
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def answers(run, device, dtype, pattern):
    """By problem, the token ids of the greedy answer."""
    binary = os.environ.get("NEMOFORGE_BINARY", ROOT / "build/release/nemoforge")
    command = [binary, "trace", "--model", ROOT / "models/demo", "--problems", ROOT / "problems/bundled", "--run", run, "--temperature", "0"]
    subprocess.run([*command, "--device", device, "--dtype", dtype, "--filter", pattern], check=True, stderr=subprocess.DEVNULL)
    with contextlib.closing(sqlite3.connect(run / "run.sqlite")) as database:
        rows = database.execute("SELECT problem_id, completion_token_ids FROM traces").fetchall()
    return {problem: array.array("i", ids) for problem, ids in rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--cpu-dtype", default="fp32")
    parser.add_argument("--least", type=float, default=0.99)
    parser.add_argument("--filter", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        expected = answers(pathlib.Path(folder) / "cpu", "cpu", arguments.cpu_dtype, arguments.filter)
        actual = answers(pathlib.Path(folder) / "device", arguments.device, arguments.dtype, arguments.filter)
    assert expected.keys() == actual.keys() and expected
    num_tokens = sum(max(len(ids), len(actual[problem])) for problem, ids in expected.items())
    num_equal = sum(a == b for problem, ids in expected.items() for a, b in zip(ids, actual[problem]))
    num_same = sum(ids == actual[problem] for problem, ids in expected.items())
    print(
        f"{arguments.device} {arguments.dtype}, cpu {arguments.cpu_dtype}: {num_equal} of {num_tokens} tokens equal ({num_equal / num_tokens:.2%}), "
        f"{num_same} of {len(expected)} answers equal throughout"
    )
    return 0 if num_equal >= arguments.least * num_tokens else 1


if __name__ == "__main__":
    sys.exit(main())
