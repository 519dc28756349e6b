"""How a run of thousands of traces is reported on and made a dataset of: seconds, memory and bytes.

    python bench/forge_scale.py --binary build/release/nemoforge --traces 10000

The run's rows are made here, as large as the answers of a reasoning model: 250 problems, a thought of 3,000 tokens, a kernel of 100 lines, ids and
logprobs of every token. A tenth of the answers are near-duplicates of others, two thirds are correct.
"""

import argparse
import array
import json
import os
import pathlib
import random
import resource
import sqlite3
import subprocess
import tempfile
import time

NUM_PROBLEMS = 250
NUM_TOKENS = 4000
ROOT = pathlib.Path(__file__).resolve().parent.parent


def words(rng, vocabulary, count):
    return " ".join(rng.choices(vocabulary, k=count))


def kernel(rng):
    lines = [f"    x{rng.randrange(40)} = tl.load(p{rng.randrange(9)} + {rng.randrange(1 << 16)}) * {rng.random():.6f}" for _ in range(100)]
    return "import triton\nimport triton.language as tl\n\n\nclass ModelNew:\n" + "\n".join(lines) + "\n"


def fill(database, num_traces):
    rng = random.Random(1)
    vocabulary = [f"word{i}" for i in range(5000)]
    database.execute("insert into runs (command, nemoforge_version, config_json, started_ms) values ('trace', '0', '{}', 0)")
    for i in range(NUM_PROBLEMS):
        source = (f"import torch\n\n\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return torch.op_{i}(x).{words(rng, vocabulary, 1)}()\n"
                  "\n\ndef get_inputs():\n    return [torch.rand(8)]\n\n\ndef get_init_inputs():\n    return []\n")
        database.execute("insert into problems values (?, ?, '', 'bench', '{}')", (f"level1_{i + 1}_op", source))
    columns = [row[1] for row in database.execute("pragma table_info(traces)") if row[1] != "id"]
    insert = f"insert into traces ({', '.join(columns)}) values ({', '.join(':' + name for name in columns)})"
    reasoning, code = "", ""
    for i in range(num_traces):
        if i % 10 != 9:
            reasoning, code = words(rng, vocabulary, 2500), kernel(rng)
        ids = array.array("i", rng.choices(range(131072), k=NUM_TOKENS))
        row = dict.fromkeys(columns, "")
        problem = f"level1_{i // 10 % NUM_PROBLEMS + 1}_op"
        row |= {"run_id": 1, "problem_id": problem, "sample_idx": i % 10 + 10 * (i // (10 * NUM_PROBLEMS)), "attempt_idx": 0,
                "messages_json": json.dumps([{"role": "user", "content": "Optimize. " * 200}]), "prompt": "Optimize. " * 200,
                "prompt_token_ids": ids.tobytes()[:2000], "completion_token_ids": ids.tobytes(),
                "completion_logprobs": array.array("f", [-0.5] * NUM_TOKENS).tobytes(), "completion": reasoning + "</think>" + code,
                "reasoning": reasoning + f" variant {i}", "answer": f"```python\n{code}```", "code": code, "num_prompt_tokens": 500,
                "num_completion_tokens": NUM_TOKENS, "num_reasoning_tokens": 3000, "finish_reason": "stop", "sampling_json": "{}", "seed": i,
                "model": "bench", "started_ms": 0, "finished_ms": 0}
        trace_id = database.execute(insert, row).lastrowid
        correct = rng.random() < 0.67
        database.execute("insert into verdicts (run_id, trace_id, verdict, family, stage, correct, speedup, device, sandboxed, record_json, started_ms, "
                         "finished_ms) values (1, ?, ?, '', '', ?, ?, 'cuda', 1, '{}', 0, 0)",
                         (trace_id, "correct" if correct else "mismatch", correct, rng.uniform(0.5, 2) if correct else None))
    database.commit()


def timed(name, command):
    before = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    print(f"{name:<28} {time.monotonic() - before:7.2f} s   {usage.ru_utime + usage.ru_stime:7.2f} s of CPU   {usage.ru_maxrss / 1024:8.0f} MiB", flush=True)
    assert status == 0, output
    return output


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--traces", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        # Makes the database, and asks nobody.
        subprocess.run([options.binary, "trace", "--model", str(ROOT / "models" / "demo"), "--problems", str(ROOT / "problems" / "bundled" / "train_00.py"),
                        "--run", run, "--max-tokens", "1"], check=True, capture_output=True)
        database = sqlite3.connect(f"{run}/run.sqlite")
        database.executescript("delete from traces; delete from problems")
        fill(database, options.traces)
        database.close()
        size = sum(path.stat().st_size for path in pathlib.Path(run).iterdir())
        print(f"{options.traces} traces, {size / 2**20:.0f} MiB, {size / options.traces / 1024:.0f} KiB a trace")
        timed("report --html", [options.binary, "report", "--run", run, "--html", f"{folder}/report.html"])
        print(timed("dataset", [options.binary, "dataset", "--run", run, "--out", f"{folder}/sft.jsonl"]).strip())
        timed("dataset --best-of 4", [options.binary, "dataset", "--run", run, "--out", f"{folder}/best.jsonl", "--best-of", "4"])
        timed("dataset --from-manifest", [options.binary, "dataset", "--from-manifest", f"{folder}/sft.manifest.json", "--out", f"{folder}/again.jsonl"])
        timed("dataset --model (counts)", [options.binary, "dataset", "--run", run, "--out", f"{folder}/counted.jsonl", "--model", str(ROOT / "models" / "demo")])
        rows = pathlib.Path(f"{folder}/sft.jsonl").stat().st_size
        print(f"sft.jsonl: {rows / 2**20:.0f} MiB; this script's largest child: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
