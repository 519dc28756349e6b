#!/usr/bin/env python3
"""Verification on a real GPU: what is honest accepted, what cheats or fails refused under its name, speedups beside those
of KernelBench's own evaluator, verdicts a minute beside the evaluator's on the same candidates.

  verify_on_gpu.py --nemoforge build/release/nemoforge [--kernelbench DIR] [--evaluator DIR] [--workers N] [--no-sandbox]
                   [--sets corpus,kernels,faults] [--out FILE.json]

--kernelbench: the folder with level1 and level2 of KernelBench, whose problems are not ours to keep; kernels/ has a candidate
for each of 23 of them. --evaluator: a checkout of KernelBench with src/kernelbench, which is then asked for the same, 5
correctness trials and 100 timed ones by CUDA events. The verifier is a `nemoforge verify-worker`,
to which all candidates of a set are handed at once."""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
CORPUS = HERE.parent / "data" / "verify"
# Of the largest share by which a speedup may differ from that of KernelBench's evaluator.
AGREEMENT = 0.10
EVALUATE = """
import contextlib, io, json, sys, time, torch
sys.path.insert(0, sys.argv[1] + "/src")
from kernelbench.eval import eval_kernel_against_ref
for line in sys.stdin:
    name, problem, candidate = json.loads(line)
    begin = time.monotonic()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            r = eval_kernel_against_ref(open(problem).read(), open(candidate).read(), num_correct_trials=5, num_perf_trials=100,
                                        measure_performance=True, timing_method="cuda_event", backend="triton",
                                        device=torch.device("cuda:0"))
        answer = {"correct": r.correctness, "kernel_ms": r.runtime, "eager_ms": r.ref_runtime,
                  "metadata": {k: str(v)[:300] for k, v in r.metadata.items()}}
    except Exception as failure:
        answer = {"correct": False, "metadata": {"failure": repr(failure)[:300]}}
    print("RESULT " + json.dumps({"name": name, "seconds": time.monotonic() - begin, **answer}), flush=True)
"""


def without_header(text):
    lines = text.split("\n")
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    return "\n".join(lines)


def corpus_jobs():
    for entry in json.loads((CORPUS / "manifest.json").read_text())["files"]:
        honest = entry["expected"] == "accept"
        yield {"name": entry["file"], "problem": CORPUS / entry["problem"], "candidate": CORPUS / entry["file"],
               "wanted": ["correct"] if honest else entry["reject_verdicts"], "honest": honest}


def fault_jobs():
    for name, wanted in json.loads((HERE / "faults" / "expected.json").read_text()).items():
        yield {"name": f"faults/{name}", "problem": HERE / "faults" / "problem.py", "candidate": HERE / "faults" / name,
               "wanted": wanted, "honest": wanted == ["correct"]}


def kernel_jobs(kernelbench, only):
    for path in sorted((HERE / "kernels").glob("*.py"), key=lambda p: [int(n) for n in re.findall(r"\d+", p.stem)]):
        level, number = re.fullmatch(r"level(\d)_(\d+)", path.stem).groups()
        found = list((kernelbench / f"level{level}").glob(f"{number}_*.py"))
        if found and (not only or path.stem in only):
            yield {"name": path.stem, "problem": found[0], "candidate": path, "wanted": ["correct"], "honest": True}


class Worker:
    def __init__(self, arguments):
        command = [arguments.nemoforge, "verify-worker", "--backend", "cuda", "--port", "0", "--workers", str(arguments.workers),
                   "--max-queue", "1000"]
        command += ["--no-sandbox"] if arguments.no_sandbox else []
        command += ["--no-compile-baseline"] if arguments.no_compile_baseline else []
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            sys.stderr.write(line)
            found = re.search(r"verifying at http://[^:]+:(\d+)", line)
            if found:
                break
        else:
            raise SystemExit("the worker ended before it listened")
        self.port = int(found.group(1))
        threading.Thread(target=self._log, daemon=True).start()

    def _log(self):
        for line in self.process.stderr:
            sys.stderr.write(line)

    def verify(self, job):
        body = json.dumps({"problem": without_header(job["problem"].read_text()),
                           "candidate": without_header(job["candidate"].read_text()), "overrides": {}})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("POST", "/v1/verify", body)
        response = connection.getresponse()
        text = response.read().decode()
        if response.status != 200:
            return {"verdict": f"http {response.status}", "detail": text[:300]}
        return json.loads(json.loads(text)["record"])

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def run_set(worker, workers, jobs):
    """Prints a line a job; (number of wrong verdicts, records)."""
    started, wrong, records = time.monotonic(), 0, {}
    with concurrent.futures.ThreadPoolExecutor(max(1, workers + 2)) as pool:
        for job, record in zip(jobs, pool.map(worker.verify, jobs)):
            accepted = record["verdict"] == "correct"
            mark = "ok" if record["verdict"] in job["wanted"] else ("unlisted" if accepted == job["honest"] else "WRONG")
            wrong += mark == "WRONG"
            records[job["name"]] = record
            times = ""
            if record.get("kernel_ms"):
                compiled = record.get("speedup_compile")
                times = (f"{record['kernel_ms']:9.4f} ms {record['speedup']:6.2f}x eager "
                         + (f"{compiled:6.2f}x compile" if compiled else ""))
            note = "" if mark == "ok" and accepted else str(record.get("detail", ""))[:260].replace("\n", " ")
            print(f"{mark:8s} {job['name']:44s} {record['verdict']:28s} {record.get('wall_ms', 0) / 1e3:6.1f} s {times} "
                  f"{' '.join(record.get('tags', []))} {note}", flush=True)
    seconds = time.monotonic() - started
    print(f"{len(jobs)} candidates, {wrong} wrong, {seconds:.1f} s, {60 * len(jobs) / seconds:.1f} verdicts a minute", flush=True)
    return wrong, records, seconds


def evaluate(evaluator, jobs, records, limit_s):
    """The same candidates by KernelBench's evaluator, all in one process, which saves it the imports; the number of speedups
    that differ by more than AGREEMENT."""
    started, apart, num_compared = time.monotonic(), 0, 0
    lines = "".join(json.dumps([job["name"], str(job["problem"]), str(job["candidate"])]) + "\n" for job in jobs)
    process = subprocess.Popen([sys.executable, "-c", EVALUATE, evaluator], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True)
    killer = threading.Timer(limit_s, process.kill)
    killer.start()
    threading.Thread(target=lambda: (process.stdin.write(lines), process.stdin.close()), daemon=True).start()
    num_done = 0
    for line in process.stdout:
        if not line.startswith("RESULT "):
            continue
        theirs = json.loads(line.removeprefix("RESULT "))
        name = theirs["name"]
        ours = records[name]
        ours["kernelbench_evaluator"] = theirs
        num_done += 1
        if not theirs["correct"] or not ours.get("kernel_ms"):
            print(f"evaluator {name}: correct {theirs['correct']}, here {ours['verdict']}, {theirs['seconds']:.1f} s "
                  f"{theirs['metadata'] if not theirs['correct'] else ''}", flush=True)
            continue
        speedup = theirs["eager_ms"] / theirs["kernel_ms"]
        difference = ours["speedup"] / speedup - 1
        num_compared += 1
        apart += abs(difference) > AGREEMENT
        print(f"evaluator {name:12s} kernel {theirs['kernel_ms']:9.4f} ms (here {ours['kernel_ms']:9.4f}), eager "
              f"{theirs['eager_ms']:9.4f} ms (here {ours['eager_ms']:9.4f}), speedup {speedup:6.3f} (here {ours['speedup']:6.3f}, "
              f"{100 * difference:+.1f} %) {theirs['seconds']:.1f} s", flush=True)
    killer.cancel()
    seconds = time.monotonic() - started
    print(f"evaluator: {num_done} of {len(jobs)} candidates, {seconds:.1f} s, {60 * num_done / seconds:.1f} verdicts a minute; "
          f"{apart} of {num_compared} speedups differ by more than {100 * AGREEMENT:.0f} %", flush=True)
    return apart


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nemoforge", required=True)
    parser.add_argument("--kernelbench", type=pathlib.Path)
    parser.add_argument("--evaluator")
    parser.add_argument("--evaluator-limit-s", type=float, default=3600)
    parser.add_argument("--skip", nargs="*", default=[], help="names of candidates to leave out")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--no-sandbox", action="store_true")
    parser.add_argument("--no-compile-baseline", action="store_true")
    parser.add_argument("--sets", default="corpus,faults,kernels")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out")
    arguments = parser.parse_args()
    wrong, everything = 0, {}
    worker = Worker(arguments)
    try:
        for name in arguments.sets.split(","):
            jobs = list({"corpus": corpus_jobs, "faults": fault_jobs}[name]() if name != "kernels"
                        else kernel_jobs(arguments.kernelbench, arguments.only))
            jobs = [job for job in jobs if not any(text == job["name"] or ("/" in job["name"] and text in job["name"]) for text in arguments.skip)]
            print(f"== {name}", flush=True)
            failed, records, _ = run_set(worker, arguments.workers, jobs)
            wrong += failed
            everything.update(records)
            if arguments.out:
                pathlib.Path(arguments.out).write_text(json.dumps(everything))
    finally:
        worker.stop()
    if arguments.evaluator:
        jobs = [job for job in jobs if job["name"] in everything]
        wrong += evaluate(arguments.evaluator, jobs, everything, arguments.evaluator_limit_s)
    if arguments.out:
        pathlib.Path(arguments.out).write_text(json.dumps(everything))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
