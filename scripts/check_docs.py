#!/usr/bin/env python3
"""Checks that what the documentation names exists: links, paths, commits, commands and flags, the table of folders."""

import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import check_layers

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = "src|apps|bench|cmake|docs|models|problems|requirements|scripts|tests|verifier"

LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./*?{{}}-]+|[A-Z]{{4,}}\.md)")
COMMIT = re.compile(r"(?<=commit )[0-9a-f]{7,12}\b|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,12}\b")
COMMAND = re.compile(r"(?:^|`)nemoforge +([a-z-]+)([^`]*)")  # in a block of code, or between backticks
FLAG = re.compile(r"(?<=\s)--[a-z][a-z0-9-]*")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def broken_paths(path: pathlib.Path, line: str) -> Iterator[str]:
    for target in LINK.findall(line):
        file = target.split("#")[0]
        if file and "://" not in target and not (path.parent / file).exists():
            yield f"no file for the link to {target}"
    for name in PATH.findall(line):
        # A brace stands for one of several names.
        pattern = re.sub(r"\{[^}]*\}", "*", name.rstrip("."))
        if not any(any(folder.glob(pattern)) for folder in (ROOT, path.parent)):
            yield f"no file {name}"


def broken_commands(line: str, cli_source: str) -> Iterator[str]:
    for command, arguments in COMMAND.findall(line):
        if f'"{command}"' not in cli_source:
            yield f"no command nemoforge {command}"
        for flag in FLAG.findall(arguments.split(" -- ")[0]):
            if flag != "--help" and not re.search(rf'["!,]{flag}["{{,]', cli_source):
                yield f"no command has the flag {flag}"


def table_differences(architecture: str) -> Iterator[str]:
    table = {row[0]: row[1] for row in re.findall(r"^\| `src/(\w+)` \|[^|]*\|([^|]*)\|$", architecture, re.MULTILINE)}
    for folder, allowed in check_layers.MAY_INCLUDE.items():
        expected = {"everything"} if allowed is None else set(allowed)
        if folder not in table:
            yield f"the table lacks src/{folder}"
        elif expected != (found := {name.strip() for name in table[folder].split(",")} - {""}):
            yield f"src/{folder}: the table has {sorted(found)}, scripts/check_layers.py {sorted(expected)}"
    for folder in table.keys() - check_layers.MAY_INCLUDE.keys():
        yield f"scripts/check_layers.py lacks src/{folder}"


def main() -> int:
    complaints = []
    # A copy without its history, or with a part of it, cannot tell which commits exist.
    in_git = (ROOT / ".git").exists()
    has_history = in_git and git("rev-parse", "--is-shallow-repository").strip() == "false"
    commits = git("rev-list", "HEAD").split() if has_history else []
    cli_source = "".join(file.read_text() for file in sorted((ROOT / "src" / "cli").glob("*.cpp")))
    files = [ROOT / name for name in git("ls-files", "*.md").split()] if in_git else sorted(ROOT.glob("[!.]*/**/*.md"))
    for path in files:
        in_code = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            in_code ^= line.startswith("```")
            found = [*broken_paths(path, line), *broken_commands(line if in_code else f" {line}", cli_source)]
            if has_history and path.name == "measurements.md":
                found += [f"no commit {name} in the history" for name in COMMIT.findall(line)
                          if not any(commit.startswith(name) for commit in commits)]
            complaints += [f"{path.relative_to(ROOT)}:{number}: {message}" for message in found]
    complaints += [f"ARCHITECTURE.md: {message}" for message in table_differences((ROOT / "ARCHITECTURE.md").read_text())]
    print("\n".join(complaints), end="\n" if complaints else "")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
