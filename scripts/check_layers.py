#!/usr/bin/env python3
"""Checks the direction of dependency over src/, that ARCHITECTURE.md's table says the same, and some rules of the house."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# folder -> the folders it may include besides itself, tensor and base.
MAY_INCLUDE = {
    "base": set(),
    "tensor": set(),
    "io": set(),
    "text": {"io"},
    "ops": set(),
    "sampling": {"ops"},
    "grammar": {"io"},
    "cache": set(),
    "model": {"ops", "io", "cache"},
    "engine": {"model", "cache", "sampling", "grammar", "text", "ops", "io"},
    "store": {"io"},
    "endpoint": {"text", "io"},
    "trace": {"endpoint", "engine", "text", "store", "io", "sampling"},
    "verify": {"store", "io"},
    "verify_remote": {"verify", "endpoint", "server", "io"},
    "dataset": {"text", "store", "io"},
    "report": {"text", "store", "io"},
    "server": {"engine", "grammar", "text", "sampling", "io"},
    "launch": {"io"},
    "train": {"model", "ops", "io", "text"},
    "cli": None,  # everything
}

# Printing and dying belong to main and the commands.
FORBIDDEN = re.compile(r"\b(std::cout|std::cerr|printf\(|fprintf\(|std::abort\(|std::exit\(|\babort\(\)|[^_:.\w]exit\()")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def violations(path: pathlib.Path):
    folder = path.relative_to(ROOT / "src").parts[0]
    if folder not in MAY_INCLUDE:
        yield 1, f"the folder src/{folder} has no row in scripts/check_layers.py"
        return
    allowed = MAY_INCLUDE[folder]
    is_test = re.search(r"_(test|bench|fuzz)\.cpp$", path.name) is not None
    conditional_allowed = folder == "ops" or path.name.startswith("device")
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := INCLUDE.match(line):
            target = match.group(1).split("/")[0]
            if target in MAY_INCLUDE and allowed is not None and not is_test:
                if target not in allowed | {folder, "tensor", "base"} or (folder == "base" and target != "base"):
                    yield number, f"{folder} may not include {match.group(1)}"
        if folder != "cli" and not is_test and FORBIDDEN.search(line.split("//")[0]):
            yield number, "only the commands print or exit"
        if re.search(r"#\s*if(def)?\b.*(CUDA|__CUDACC__)", line) and not conditional_allowed:
            yield number, "backend conditionals live in src/ops only"


def table_of_architecture():
    """folder -> the folders that ARCHITECTURE.md's table lets it include."""
    table = {}
    for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines():
        if match := re.match(r"\| `src/(\w+)` \|.*\|([^|]*)\|$", line):
            table[match[1]] = set(re.findall(r"\w+", match[2]))
    return table


def main() -> int:
    failed = False
    table = table_of_architecture()
    for folder, allowed in MAY_INCLUDE.items():
        if allowed is not None and folder != "base" and table.get(folder) != allowed:
            print(f"ARCHITECTURE.md: src/{folder} may include {sorted(allowed)}, its table says {sorted(table.get(folder, []))}")
            failed = True
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix in {".h", ".cpp", ".cu", ".cuh"}:
            for number, message in violations(path):
                print(f"{path.relative_to(ROOT)}:{number}: {message}")
                failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
