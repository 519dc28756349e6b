#!/usr/bin/env python3
"""Verifies every file of the attack and honest corpora and compares the verdicts with the manifests.

  run_corpus.py --nemoforge build/release/nemoforge [--manifest NAME ...] [--only TEXT ...] [--workers N]
                [--subset] [--repeat N] [--strict]

--subset takes the first file of every family and every fourth honest one: what the test of the slow label runs.
--repeat verifies each file N times, under other secret seeds each time: two verdicts for one file fail the run.

Candidates are handed over as the verifier will meet them: without the header comment that names the trick. An
honest file must come out as correct_cpu, an attack as anything else; a verdict that the manifest does not list is
printed, and fails the run with --strict.
"""

import argparse
import collections
import concurrent.futures
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent / "data" / "verify"
MANIFESTS = ("manifest.json", "own/honest.json", "own/attacks.json")
ACCEPTED = ("correct", "correct_cpu")


def without_header(text):
    lines = text.split("\n")
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    return "\n".join(lines)


def verify(nemoforge, entry):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "problem.py").write_text(without_header((ROOT / entry["problem"]).read_text()))
        (folder / "candidate.py").write_text(without_header((ROOT / entry["file"]).read_text()))
        (folder / "overrides.json").write_text(json.dumps(entry.get("small", {})))
        command = [nemoforge, "verify", "--json", "--device", "interpret", "--problem", folder / "problem.py",
                   "--candidate", folder / "candidate.py", "--overrides", folder / "overrides.json"]
        done = subprocess.run(command, capture_output=True, text=True)
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"verdict": "no_answer", "detail": done.stderr[-1000:]}


def subset(entries):
    honest = [e for e in entries if e["family"] == "honest"][::4]
    first_of_family = {}
    for entry in entries:
        first_of_family.setdefault(entry["family"], entry)
    chosen = {e["file"] for e in [*honest, *first_of_family.values()]}
    return [e for e in entries if e["file"] in chosen]


def judge(entry, records):
    """(mark, note): whether the verdicts are right, have a name that the manifest lists, and agree."""
    verdicts = [record["verdict"] for record in records]
    accepts = entry["expected"] == "accept"
    note = next((r["detail"] for r in records if r.get("detail") and r["verdict"] not in ACCEPTED), "")[:300]
    if any((v in ACCEPTED) != accepts or v == "no_answer" for v in verdicts):
        return "WRONG", note
    if len(set(verdicts)) > 1:
        return "UNSTABLE", ", ".join(verdicts)
    # A file that asks for a GPU says nothing here, whatever its kind.
    if accepts or verdicts[0] in entry["reject_verdicts"] or (entry["needs_gpu"] and verdicts[0] == "needs_gpu"):
        return "ok", ""
    return "unlisted", note


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--nemoforge", required=True)
    arguments.add_argument("--manifest", action="append", choices=MANIFESTS)
    arguments.add_argument("--only", nargs="*", default=[])
    arguments.add_argument("--workers", type=int, default=os.cpu_count())
    arguments.add_argument("--subset", action="store_true")
    arguments.add_argument("--repeat", type=int, default=1)
    arguments.add_argument("--strict", action="store_true")
    arguments = arguments.parse_args()
    entries = []
    for manifest in arguments.manifest or MANIFESTS:
        entries += json.loads((ROOT / manifest).read_text())["files"]
    entries = [e for e in entries if not arguments.only or any(text in e["file"] for text in arguments.only)]
    if arguments.subset:
        entries = subset(entries)
    marks = collections.Counter()
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(arguments.workers) as pool:
        runs = pool.map(lambda e: verify(arguments.nemoforge, e), [e for e in entries for _ in range(arguments.repeat)])
        for entry in entries:
            records = list(itertools.islice(runs, arguments.repeat))
            mark, note = judge(entry, records)
            marks[mark] += 1
            print(f"{mark:8s} {entry['file']:50s} {entry['expected']:7s} {records[0]['verdict']} {note}", flush=True)
    minutes = (time.monotonic() - started) / 60
    print(f"{len(entries)} files, {marks['WRONG']} wrong, {marks['UNSTABLE']} with different verdicts, {marks['unlisted']} rejected "
          f"under another name than listed; {len(entries) * arguments.repeat / minutes:.1f} verdicts a minute")
    failed = marks["WRONG"] or marks["UNSTABLE"] or not entries or (arguments.strict and marks["unlisted"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
