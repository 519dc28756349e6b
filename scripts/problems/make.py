#!/usr/bin/env python3
"""Writes generated problems in KernelBench's form: `scripts/problems/make.py OUT --count 200 --seed 1`.

A problem is a small program: one to three inputs, joined by binary operations, then elementwise operations and perhaps one reduction of the rows.
Sides are kept apart by structure: a pair of neighbouring operations is held out by a hash of their names, training problems never have such a pair,
held-out problems have one at least. The bundled problems follow the same rule, so that problems of side `train` overlap with no bundled
held-out one. The same seed gives the same files.
"""

import argparse
import hashlib
import itertools
import math
import pathlib
import random
import sys
from dataclasses import dataclass, field

from operations import ATOM, BINARY, PLAIN_NAME, REDUCTIONS, UNARY

HELD_OUT_PERCENT = 12
START_MAGNITUDE = 6.0  # of what torch.randn gives
MAX_MAGNITUDE = 300.0
MAX_ELEMENTS = 2**22  # of an input
MIN_ELEMENTS = 2**13  # of the largest one that may be asked for
MAX_SIZE = 8
MAX_MISSES = 20000  # draws in a row that give no new problem
SIZE_WEIGHTS = (1, 4, 4, 4, 2, 2)  # of problems of 1, 2, ... operations
SHAPES = {
    2: ((64, 100, 128, 256, 500, 512, 1024, 2000, 2048), (128, 192, 256, 384, 500, 512, 768, 1000, 1024, 1536, 2000, 2048)),
    3: ((2, 4, 8, 16), (32, 50, 64, 100, 128), (128, 256, 384, 512, 640, 1000)),
}
DIMENSIONS = {
    2: (("batch_size", "dim"), ("rows", "cols"), ("batch_size", "features"), ("M", "N")),
    3: (("batch_size", "seq_len", "dim"), ("batch_size", "num_tokens", "features"), ("B", "S", "D")),
}
INPUTS = (("x", "y", "z"), ("a", "b", "c"), ("x1", "x2", "x3"), ("input", "other", "third"))


def is_held_out_pair(first, second):
    return int(hashlib.sha1(f"{first}>{second}".encode()).hexdigest(), 16) % 100 < HELD_OUT_PERCENT


class TooLarge(Exception):
    """No operation fits the values' magnitude here: the problem is drawn again."""


@dataclass
class Node:
    kind: str  # a name in UNARY or REDUCTIONS
    constants: list = field(default_factory=list)
    written: list = field(default_factory=list)  # the constants as the code has them
    attributes: list = field(default_factory=list)  # names of those that are arguments of __init__
    module: str = ""  # attribute that applies the operation; empty: a function does
    form: int = 0
    keeps_dim: bool = False


@dataclass
class Program:
    inputs: list
    branches: list  # a chain of nodes for each input
    joins: list  # names in BINARY
    body: list  # of nodes

    def nodes(self):
        return [node for branch in self.branches for node in branch] + self.body

    def pairs(self):
        """Neighbouring operations, along the data's way."""
        last = None
        found = []
        for idx, branch in enumerate(self.branches):
            kinds = [node.kind for node in branch]
            found += zip(kinds, kinds[1:])
            if idx == 0:
                last = kinds[-1] if kinds else None
                continue
            join = self.joins[idx - 1]
            found += [(kind, join) for kind in (last, kinds[-1] if kinds else None) if kind]
            last = join
        kinds = ([last] if last else []) + [node.kind for node in self.body]
        return found + list(zip(kinds, kinds[1:]))


def draw_chain(rng, length, magnitude):
    nodes = []
    for _ in range(100 * (length + 1)):
        if len(nodes) == length:
            return nodes, magnitude
        kind = rng.choice(list(UNARY))
        operation = UNARY[kind]
        constants = [draw(rng) for draw in operation.constants]
        if magnitude > operation.max_input or (nodes and nodes[-1].kind == kind):
            continue
        grown = operation.magnitude(magnitude, constants)
        if grown <= max(MAX_MAGNITUDE, magnitude):
            nodes.append(Node(kind, constants))
            magnitude = grown
    raise TooLarge


def draw_program(rng, size, num_columns):
    num_inputs = rng.choices([1, 2, 3], [6, 4, 1])[0] if size > 2 else 1
    reduces = size - num_inputs >= 0 and rng.random() < 0.45
    left = size - (num_inputs - 1) - reduces
    branches, joins, magnitude = [], [], 0.0
    for _ in range(num_inputs):
        length = 1 if num_inputs > 1 and left > 1 and rng.random() < 0.4 else 0
        left -= length
        nodes, grown = draw_chain(rng, length, START_MAGNITUDE)
        branches.append(nodes)
        if len(branches) > 1:
            joins.append(rng.choices(list(BINARY), [4, 2, 4, 1, 1])[0])
        magnitude = magnitude * grown if joins and joins[-1] == "bmul" else magnitude + grown
    before = rng.randint(0, left) if reduces else left
    body, magnitude = draw_chain(rng, before, magnitude)
    if reduces:
        kind = rng.choice(list(REDUCTIONS))
        body.append(Node(kind, keeps_dim=REDUCTIONS[kind].drops_dim and rng.random() < 0.5))
        after, _ = draw_chain(rng, left - before, REDUCTIONS[kind].magnitude(magnitude, num_columns))
        body += after
    names = list(rng.choice(INPUTS))[:num_inputs]
    return Program(names if num_inputs > 1 else [rng.choice(("x", "x", "input", "t"))], branches, joins, body)


def name_constants(rng, program, used):
    """Draws how each node is written, and what __init__ takes: [(name, value)]."""

    def fresh(candidates):
        base = rng.choice(candidates)
        name = next(n for n in [base] + [f"{base}{i}" for i in range(2, 99)] if n not in used)
        used.add(name)
        return name

    arguments = []
    as_arguments, as_modules = rng.random() < 0.3, rng.random() < 0.35
    for node in program.nodes():
        operation = UNARY.get(node.kind) or REDUCTIONS[node.kind]
        node.form = rng.randrange(100)
        node.written = [repr(float(c)) for c in node.constants]
        if node.constants and as_arguments:
            node.attributes = [fresh(names) for names in operation.names]
            arguments += zip(node.attributes, node.constants)
            node.written = [f"self.{name}" for name in node.attributes]
        if operation.modules and as_modules and rng.random() < 0.7:
            node.module = fresh(["act", "activation", node.kind])
    return arguments


def enclose(expression, need):
    text, precedence = expression
    return text if precedence >= need else f"({text})"


class Forward:
    """The lines of forward()."""

    def __init__(self, program, one_step_a_line):
        self.program = program
        self.one_step_a_line = one_step_a_line
        self.lines = []

    def assign(self, expression, name):
        if not expression[0].isidentifier():
            self.lines.append(f"{name} = {expression[0]}")
        return name, ATOM

    def apply(self, node, expression, name):
        if self.one_step_a_line:
            expression = self.assign(expression, name)
        if node.module:
            return f"self.{node.module}({expression[0]})", ATOM
        constants = {f"c{i}": text for i, text in enumerate(node.written)}
        if node.kind in REDUCTIONS:
            forms = REDUCTIONS[node.kind].forms
            form = forms[node.form % len(forms)]
            expression = self.assign(expression, name)
            text = form.format(x=expression[0], k=", keepdim=True" if node.keeps_dim else "")
            return text, ATOM if form.endswith((")", "]", ".values")) and not form.startswith("{x} ") else 0
        forms = UNARY[node.kind].forms
        template, precedence, need = forms[node.form % len(forms)]
        if need == PLAIN_NAME:
            expression = self.assign(expression, name)
        return template.format(x=enclose(expression, min(need, ATOM)), **constants), precedence

    def render(self):
        branches = []
        for name, branch in zip(self.program.inputs, self.program.branches):
            expression = (name, ATOM)
            for node in branch:
                expression = self.apply(node, expression, name)
            branches.append(expression)
        expression = branches[0]
        for join, other in zip(self.program.joins, branches[1:]):
            operation = BINARY[join]
            text = operation.form.format(a=enclose(expression, operation.needs[0]), b=enclose(other, operation.needs[1]))
            expression = (text, operation.precedence)
        name = self.program.inputs[0] if len(self.program.inputs) == 1 else "out"
        for node in self.program.body:
            expression = self.apply(node, expression, name)
        return self.lines + [f"return {expression[0]}"]


def describe(program):
    """The operations in words, in order."""

    def words(node):
        operation = UNARY.get(node.kind) or REDUCTIONS[node.kind]
        return operation.words.format(**{f"c{i}": text.removeprefix("self.") for i, text in enumerate(node.written)})

    several = len(program.inputs) > 1
    steps = [words(node) + (f" on {name}" if several else "") for name, branch in zip(program.inputs, program.branches) for node in branch]
    steps += [BINARY[join].words.format(b=name) for join, name in zip(program.joins, program.inputs[1:])]
    return ", then ".join(steps + [words(node) for node in program.body])


def render(rng, program, dimensions, shape):
    arguments = name_constants(rng, program, set(program.inputs) | set(dimensions) | {"out"})
    names = [name for name, _ in arguments]
    forward = Forward(program, rng.random() < 0.5).render()
    init = []
    for node in program.nodes():
        operation = UNARY.get(node.kind) or REDUCTIONS[node.kind]
        init += [f"self.{name} = {name}" for name in node.attributes]
        if node.module:
            template = operation.modules[node.form % len(operation.modules)]
            init.append(f"self.{node.module} = " + template.format(**{f"c{i}": t.removeprefix("self.") for i, t in enumerate(node.written)}))
    typed = rng.random() < 0.35
    lines = ["import torch", "import torch.nn as nn"]
    if any("F." in line for line in forward):
        lines.append("import torch.nn.functional as F")
    lines += ["", "", "class Model(nn.Module):"]
    if rng.random() < 0.6:
        lines += ['    """', f"    Model that computes: {describe(program)}.", '    """']
    lines += [f"    def __init__({', '.join(['self'] + names)}):", "        super().__init__()"]
    lines += [f"        {line}" for line in init]
    inputs = ", ".join(name + (": torch.Tensor" if typed else "") for name in program.inputs)
    lines += ["", f"    def forward(self, {inputs}){' -> torch.Tensor' if typed else ''}:"]
    lines += [f"        {line}" for line in forward] + ["", ""]
    lines += [f"{name} = {value}" for name, value in [*zip(dimensions, shape), *arguments]]
    drawn = f"{rng.choice(('torch.randn', 'torch.randn', 'torch.rand'))}({', '.join(dimensions)})"
    lines += ["", "", "def get_inputs():", f"    return [{', '.join([drawn] * len(program.inputs))}]"]
    lines += ["", "", "def get_init_inputs():", f"    return [{', '.join(names)}]"]
    return "\n".join(lines) + "\n"


def shapes_of(rank, max_elements):
    return [shape for shape in itertools.product(*SHAPES[rank]) if math.prod(shape) <= max_elements]


def problems(seed, side, size_weights=SIZE_WEIGHTS, max_elements=MAX_ELEMENTS):
    """Yields sources of problems while there are new ones; no two of the same operations. size_weights: how often a problem has 1, 2, ... operations.
    max_elements: of an input."""
    sizes = range(1, len(size_weights) + 1)
    shapes = {rank: shapes_of(rank, max_elements) for rank in SHAPES}
    num_misses = 0
    rng = random.Random(f"{seed}/{side}")
    seen = set()
    while num_misses < MAX_MISSES:
        num_misses += 1
        rank = rng.choices([2, 3], [7, 3])[0]
        shape = rng.choice(shapes[rank]) if max_elements < MAX_ELEMENTS else [rng.choice(sizes) for sizes in SHAPES[rank]]
        try:
            program = draw_program(rng, rng.choices(sizes, size_weights)[0], shape[-1])
        except TooLarge:
            continue
        structure = (tuple(program.joins), tuple(tuple(n.kind for n in branch) for branch in program.branches), tuple(n.kind for n in program.body))
        has_held_out_pair = any(is_held_out_pair(*pair) for pair in program.pairs())
        if structure in seen or has_held_out_pair != (side == "held_out"):
            continue
        seen.add(structure)
        num_misses = 0
        yield render(rng, program, rng.choice(DIMENSIONS[rank]), shape)


def read_size_weights(text):
    try:
        weights = tuple(float(weight) for weight in text.split(","))
    except ValueError:
        weights = ()
    if not 0 < sum(weights) < float("inf") or min(weights) < 0 or len(weights) > MAX_SIZE:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of 1 to {MAX_SIZE} weights, one of them above 0")
    return weights


def read_max_elements(text):
    if not text.isdecimal() or int(text) < MIN_ELEMENTS:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from {MIN_ELEMENTS} on")
    return int(text)


def main():
    parser = argparse.ArgumentParser(description="Writes generated problems in KernelBench's form.")
    parser.add_argument("out", type=pathlib.Path, help="folder of SIDE_SEED_N.py")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", choices=("train", "held_out"), default="train")
    parser.add_argument(
        "--sizes",
        type=read_size_weights,
        default=SIZE_WEIGHTS,
        metavar="W1,W2,...",
        help="weights of problems of 1, 2, ... operations, so that 0,0,0,0,1,1 are long ones only (default: %s)" % ",".join(map(str, SIZE_WEIGHTS)),
    )
    parser.add_argument(
        "--max-elements", type=read_max_elements, default=MAX_ELEMENTS, metavar="N", help="most elements of an input: few make verification on a CPU quick"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    num_written = 0
    for number, source in zip(range(arguments.count), problems(arguments.seed, arguments.side, arguments.sizes, arguments.max_elements)):
        num_written += 1
        (arguments.out / f"{arguments.side}_{arguments.seed}_{number:05}.py").write_text(source)
    if num_written < arguments.count:
        sys.exit(f"make.py: wrote {num_written} problems: there are no {arguments.count} of these sizes on side {arguments.side}")


if __name__ == "__main__":
    main()
