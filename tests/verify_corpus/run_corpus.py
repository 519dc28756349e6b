#!/usr/bin/env python3
"""Verifies every file of the attack and honest corpora and compares the verdicts with the manifests.

  run_corpus.py --nemoforge build/release/nemoforge [--manifest NAME ...] [--only TEXT ...] [--workers N]

Candidates are handed over as the verifier will meet them: without the header comment that names the trick. An
honest file must come out as correct_cpu, an attack as anything else; a verdict that the manifest does not list is
printed, and fails the run with --strict.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile

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


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--nemoforge", required=True)
    arguments.add_argument("--manifest", action="append", choices=MANIFESTS)
    arguments.add_argument("--only", nargs="*", default=[])
    arguments.add_argument("--workers", type=int, default=os.cpu_count())
    arguments.add_argument("--strict", action="store_true")
    arguments = arguments.parse_args()
    entries = []
    for manifest in arguments.manifest or MANIFESTS:
        entries += json.loads((ROOT / manifest).read_text())["files"]
    entries = [e for e in entries if not arguments.only or any(text in e["file"] for text in arguments.only)]
    wrong = unlisted = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.workers) as pool:
        for entry, record in zip(entries, pool.map(lambda e: verify(arguments.nemoforge, e), entries)):
            verdict = record["verdict"]
            # A file that asks for a GPU says nothing here, whatever its kind.
            right = (verdict in ACCEPTED) == (entry["expected"] == "accept") and verdict != "no_answer"
            listed = entry["expected"] == "accept" or verdict in entry["reject_verdicts"]
            listed = listed or (entry["needs_gpu"] and verdict == "needs_gpu")
            wrong += not right
            unlisted += right and not listed
            note = "" if right and listed else (record.get("detail") or "")[:300]
            mark = "WRONG   " if not right else "ok      " if listed else "unlisted"
            print(f"{mark} {entry['file']:50s} {entry['expected']:7s} {verdict} {note}", flush=True)
    print(f"{len(entries)} files, {wrong} wrong, {unlisted} rejected under another name than listed")
    return 1 if wrong or not entries or (arguments.strict and unlisted) else 0


if __name__ == "__main__":
    sys.exit(main())
