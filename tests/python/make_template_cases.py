"""Renders templates with real Jinja2, set up as transformers sets it up, for the tests of nemoforge's interpreter.

Writes one JSON object a line. The first is the variables that most cases share; every other a case: {"name", "source",
"shared", "variables", "text"} or, where Jinja2 refuses the template or its values, "error" in place of "text"; "shared"
says whether the shared variables are given beside the case's own. The cases are written-out ones (template_cases.py) and random ones from
a seed: expressions over all operators, filters, tests and methods; statements; white space control; broken templates.

    make_template_cases.py [--seed N] [--random N]
    make_template_cases.py --render     stdin: {"source", "variables"} a line; stdout: {"text"} or {"error"} a line
"""

import argparse
import copy
import json
import os
import pathlib
import random
import re
import sys
import warnings
from datetime import datetime

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

import template_cases


class Generation(jinja2.ext.Extension):
    """The {% generation %} block, which transformers uses to find what the assistant wrote."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _render(self, context, caller):
        return caller()


def make_environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.now().strftime(format)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment


ENVIRONMENT = make_environment()

# What differs by design: addresses in memory, integers of more than 128 bits, and what the interpreter names as
# unsupported.
NOT_REPRODUCIBLE = re.compile(r" at 0x|<built-in|<function|<bound|<class|<jinja2|object>|\d{38}|generator|<method|iterator")


def render(source, variables):
    try:
        # A copy: Jinja2's indent adds a newline to a list in place.
        return {"text": ENVIRONMENT.from_string(source).render(**copy.deepcopy(variables))}
    except Exception as failure:
        return {"error": f"{type(failure).__name__}: {failure}"}


def emit(name, source, variables, shared=True):
    result = render(source, {**VALUES, **variables} if shared else variables)
    if "text" in result:
        if len(result["text"]) > 100_000 or NOT_REPRODUCIBLE.search(result["text"]):
            return
        try:
            result["text"].encode()
        except UnicodeEncodeError:
            return
    elif result["error"].startswith(("RecursionError", "MemoryError")):
        return
    print(json.dumps({"name": name, "source": source, "shared": shared, "variables": variables, **result}))


VALUES = {
    "text": "Hello, World",
    "empty": "",
    "spaced": "  two words\t\n",
    "accents": "Ünïcödé ΑΣ ßtraße İ 日本語 👩‍👩‍👧",
    "code": "def f(x):\n    return x < 3 and '&' or \"q\"\n\n",
    "upper": "ABC",
    "number": 42,
    "negative": -7,
    "zero": 0,
    "pi": 3.14159,
    "half": 2.5,
    "big": 1e22,
    "tiny": 1.5e-7,
    "yes": True,
    "no": False,
    "nothing": None,
    "words": ["banana", "Apple", "cherry", "apple"],
    "numbers": [3, 1, 2, 1],
    "mixed": [1, "a", None, 2.5, True, [1, 2], {"k": "v"}],
    "nested": [[1, 2], [3], []],
    "none_at_all": [],
    "person": {"name": "Ada", "age": 36, "tags": ["x", "y"], "address": {"city": "London", "zip": None}},
    "people": [
        {"name": "Ada", "age": 36, "city": "London", "items": 1},
        {"name": "bob", "age": 25, "city": "paris"},
        {"name": "Cy", "age": 36, "city": "Paris", "role": {"level": 3}},
    ],
    "empty_dict": {},
    "odd_keys": {"a b": 1, "ü": 2, "items": 3, "keys": [4]},
}

STRINGS = ["'a'", "'x,y'", "''", "' '", "'é'", "'%s'", "'{}'", "'name'", "'age'", "'\\n'", "'o'", "'l'", "'apple'", "'ß'"]
INTEGERS = ["0", "1", "2", "3", "-1", "-2", "5", "10", "100"]
OTHERS = ["none", "true", "false", "1.5", "-0.25", "missing", "[]", "{}", "()", "(1, 2)", "[1, 'a']", "{'a': 1, 'b': [2]}"]
FILTERS = [
    "abs", "attr('name')", "batch(2)|list", "batch(3, 'x')|list", "capitalize", "center(12)", "count", "default('d')",
    "default('d', true)", "d", "dictsort", "dictsort(by='value')", "dictsort(reverse=true)", "escape", "e", "filesizeformat",
    "filesizeformat(true)", "first", "float", "float(1.5)", "forceescape", "format(1, 'a')", "groupby('age')",
    "groupby('city', default='?')", "indent", "indent(2, true)", "indent('> ', first=true, blank=true)", "int", "int(7)",
    "int(0, 16)", "items|list", "join", "join(', ')", "join('-', attribute='name')", "last", "length", "list", "lower",
    "map('upper')|list", "map(attribute='name')|list", "map(attribute='role.level', default=0)|list", "map('default', 'z')|list",
    "max", "min", "max(attribute='age')", "min(case_sensitive=true)", "reject|list", "reject('string')|list",
    "rejectattr('role')|list", "replace('a', 'bb')", "replace('', '-')", "replace('l', 'L', 1)", "reverse|list", "reverse",
    "round", "round(2)", "round(1, 'ceil')", "round(1, 'floor')", "round(-1)", "safe", "select|list", "select('odd')|list",
    "select('equalto', 1)|list", "select('in', [1, 2])|list", "selectattr('age', 'gt', 30)|list", "selectattr('role', 'defined')|list",
    "selectattr('city')|map(attribute='name')|join(',')", "slice(2)|list", "slice(3, 0)|list", "sort", "sort(reverse=true)",
    "sort(attribute='name')", "sort(attribute='age,name')", "sort(case_sensitive=true)", "string", "striptags", "sum",
    "sum(attribute='age')", "sum(start=10)", "title", "tojson", "tojson(indent=2)", "tojson(ensure_ascii=true)",
    "tojson(sort_keys=true)", "tojson(separators=(',', ':'))", "trim", "trim('H')", "truncate(8)", "truncate(5, true, '…')",
    "truncate(9, leeway=0)", "unique|list", "unique(attribute='age')|list", "unique(true)|list", "upper", "urlencode",
    "wordcount", "xmlattr",
]
TESTS = [
    "defined", "undefined", "none", "string", "mapping", "sequence", "iterable", "number", "integer", "float", "boolean",
    "true", "false", "even", "odd", "divisibleby 3", "divisibleby(2)", "eq 1", "== 'a'", "equalto none", "ne 2", "lt 5", "le 2.5",
    "gt 0", "ge -1", "in [1, 2, 'a']", "in 'abc'", "sameas none", "sameas true", "lower", "upper", "callable", "filter", "test",
    "escaped", "lessthan 3", "greaterthan 3",
]
TESTS = [test for test in TESTS if not test.startswith("==")]
METHODS = [
    "strip()", "lstrip()", "rstrip()", "strip('Hd')", "split()", "split(',')", "split(' ', 1)", "split(sep='l', maxsplit=1)",
    "rsplit('o', 1)", "rsplit()", "rsplit(none, 1)", "splitlines()", "splitlines(true)", "startswith('He')", "startswith(('A', ' '))",
    "endswith('ld')", "endswith('')", "replace('l', '1')", "replace('o', '0', 1)", "upper()", "lower()", "title()", "capitalize()",
    "swapcase()", "find('l')", "find('zz')", "rfind('l')", "index('o')", "index('zz')", "count('l')", "count('')", "find('o', 5)",
    "join(words)", "join(['a', 'b'])", "join('xyz')", "format(1, 2)", "format('a', k='v')", "isdigit()", "isalpha()", "isalnum()",
    "isspace()", "isupper()", "islower()", "istitle()", "isnumeric()", "isdecimal()", "isascii()", "isidentifier()", "isprintable()",
    "removeprefix('He')", "removesuffix('ld')", "zfill(15)", "ljust(15, '.')", "rjust(15)", "center(20, '*')", "partition(' ')",
    "rpartition('l')", "partition('zz')", "expandtabs(4)", "items()", "keys()", "values()", "get('name')", "get('zz', 'dflt')",
    "copy()", "index(1)", "count(1)", "append(1)", "pop()", "update({})", "items()|list", "keys()|list", "values()|list",
    "nonsense()", "is_integer()",
]
POSTFIXES = [
    ".name", "['name']", ".address.city", "[0]", "[-1]", "[99]", "['zz']", ".zz", ".0", "[none]", "[0]['name']", "[true]", "[1.0]",
    "[(1, 2)]",
]
# Of variables only: Jinja folds slices of constants by another rule.
SLICES = ["[1:]", "[:-1]", "[::-1]", "[::2]", "[1:3]", "[-3:-1]", "[5:1:-2]", "[:2]", "[:number]", "[negative:]"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]


class ExpressionMaker:
    def __init__(self, rng):
        self.rng = rng

    def atom(self):
        kind = self.rng.random()
        if kind < 0.62:
            return self.rng.choice(list(VALUES))
        if kind < 0.76:
            return self.rng.choice(STRINGS)
        if kind < 0.88:
            return self.rng.choice(INTEGERS)
        return self.rng.choice(OTHERS)

    def expression(self, depth):
        rng = self.rng
        if depth <= 0:
            return self.atom()
        kind = rng.random()
        inner = self.expression(depth - 1)
        if kind < 0.30:
            return f"({inner})|{rng.choice(FILTERS)}"
        if kind < 0.44:
            return f"({inner}).{rng.choice(METHODS)}"
        if kind < 0.50:
            return rng.choice(list(VALUES)) + rng.choice(SLICES)
        if kind < 0.56:
            return f"({inner}){rng.choice(POSTFIXES)}"
        if kind < 0.76:
            return f"{inner} {rng.choice(BINARY)} {self.expression(depth - 1)}"
        if kind < 0.84:
            return f"{inner} is {rng.choice(['', 'not '])}{rng.choice(TESTS)}"
        if kind < 0.90:
            otherwise = f" else {self.expression(depth - 1)}" if rng.random() < 0.8 else ""
            return f"({inner} if {self.expression(depth - 1)}{otherwise})"
        if kind < 0.94:
            return f"{rng.choice(['-', '+', 'not '])}({inner})"
        if kind < 0.97:
            return f"[{inner}, {self.expression(depth - 1)}]"
        return "{" + f"{rng.choice(STRINGS)}: {inner}" + "}"


def random_expression_case(rng, idx):
    maker = ExpressionMaker(rng)
    source = "{{ " + maker.expression(rng.choice([1, 1, 2, 2, 3])) + " }}"
    if rng.random() < 0.3:
        source = "{% set v = " + maker.expression(2) + " %}{{ v is defined }}|" + source.replace("}}", "|string|length }}")
    emit(f"expression {idx}", source, {})


def random_white_space_case(rng, idx):
    space = ["", " ", "  ", "\t", "\n", "\n\n", " \n ", "\n  ", "text", "a b", " x\n", "\r\n", "\n\t", "\u00a0", "-", "{", "%}"]
    signs = ["", "", "", "-", "+"]
    tags = ["set q = 1", "if yes", "endif", "for i in numbers", "endfor", "if no", "else"]
    opened = []
    source = rng.choice(space)
    for _ in range(rng.randint(1, 8)):
        kind = rng.random()
        left, right = rng.choice(signs), rng.choice(signs)
        if kind < 0.45:
            tag = rng.choice(tags[:1] + ["if yes", "for i in numbers", "if no"])
            if tag.startswith(("if", "for")):
                opened.append("end" + tag.split()[0])
            source += "{%" + left + rng.choice([" ", "  ", ""]) + tag + " " + right + "%}"
        elif kind < 0.65:
            source += "{{" + left.replace("+", "+ ") + " " + rng.choice(["text", "number", "i"]) + " " + right.replace("+", "") + "}}"
        elif kind < 0.8:
            source += "{#" + left + " note\n " + right + "#}"
        elif kind < 0.9:
            source += "{%" + left + " raw " + right.replace("+", "") + "%}" + rng.choice(space) + "{{ x }}" + rng.choice(space)
            source += "{%" + rng.choice(signs) + " endraw " + rng.choice(signs) + "%}"
        elif opened:
            source += "{%" + left + " " + opened.pop() + " " + right + "%}"
        source += rng.choice(space) + rng.choice(space)
    while opened:
        source += "{%" + rng.choice(signs) + " " + opened.pop() + " " + rng.choice(signs) + "%}" + rng.choice(space)
    emit(f"white space {idx}", source, {})


FORMATS = ["%s", "%d", "%5d", "%-5d|", "%05d", "%+d", "%x", "%X", "%#x", "%o", "%e", "%f", "%.2f", "%10.3f", "%g", "%G", "%r", "%c",
           "%5s", "%-5s|", "%.2s", "%i", "% d", "%%", "%q", "%(name)s", "%*d", "%5%", "%#o", "%.0f", "%a"]
SPECS = ["", "d", "5", "<5", ">5", "^7", "*^9", "05", "+", " ", ",", "_", ".2f", "8.3f", "e", ".3e", "g", "x", "#x", "b", "o", "X", "c",
         "s", ".2", "%", ".1%", "=+6", "n", "q", "10s", "-<4", "é>6", ",.2f", "#b", "08.2f"]


def random_format_case(rng, idx):
    value = rng.choice(list(VALUES) + INTEGERS + ["1e10", "0.1", "-2.5", "123456789", "missing", "1234.5678", "97"])
    kind = rng.random()
    if kind < 0.4:
        source = "{{ 'a" + rng.choice(FORMATS) + "b' % " + rng.choice([value, f"({value},)", f"({value}, 2)", "person"]) + " }}"
    elif kind < 0.5:
        source = "{{ '" + rng.choice(FORMATS) + rng.choice(FORMATS) + "'|format(" + rng.choice([value, f"{value}, 3", "name=1"]) + ") }}"
    else:
        field = rng.choice(["", "0", "1", "k", "k.name", "k[name]", "0[0]", "0!r", "!s", "k!r", "zz", "0.zz"])
        source = "{{ '<{" + field + ":" + rng.choice(SPECS) + "}>{{x}}'.format(" + value + ", k=person) }}"
    emit(f"format {idx}", source, {})


def random_broken_case(rng, idx):
    sources = [source for _, source, _ in template_cases.STATEMENTS]
    source = rng.choice(sources)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(source) + 1)
        kind = rng.random()
        if kind < 0.4:
            source = source[:at] + source[at + rng.randint(1, 4):]
        elif kind < 0.8:
            source = source[:at] + rng.choice(["{%", "%}", "{{", "}}", "(", ")", "[", "]", "'", '"', "|", ".", ",", "=", " in ", " if ",
                                               " is ", "-", "\\", "{#", "#}", " not ", "~", "\n", "@", "endfor", "else"]) + source[at:]
        else:
            other = rng.choice(sources)
            source = source[:at] + other[rng.randrange(len(other) + 1):]
    emit(f"broken {idx}", source, {})


def random_conversation(rng):
    texts = ["Hello", "", "  padded \n", "What is ≠ 2?", "<think>\nwell\n</think>\nyes", "half</think>rest", "<think>open", "a\n\nb",
             "{{ not a template }}", "<|im_end|>", "日本 👍", "x" * 50]
    messages = []
    if rng.random() < 0.5:
        messages.append({"role": "system", "content": rng.choice(texts)})
    for _ in range(rng.randint(1, 6)):
        messages.append({"role": "user", "content": rng.choice(texts)})
        if rng.random() < 0.8:
            answer = {"role": "assistant", "content": rng.choice(texts + [None])}
            if rng.random() < 0.4:
                answer["reasoning_content"] = rng.choice(texts)
            if rng.random() < 0.4:
                answer["tool_calls"] = [
                    {"id": f"call_{i:05d}xx", "type": "function",
                     "function": {"name": rng.choice(["get_weather", "run"]),
                                  "arguments": {rng.choice(["city", "n", "opts"]): rng.choice(["Oslo", 3, 1.5, True, None, ["é", 1], {"k": {}}])}}}
                    for i in range(rng.randint(1, 3))
                ]
            messages.append(answer)
            for call in answer.get("tool_calls", []):
                messages.append({"role": "tool", "content": rng.choice(texts), "tool_call_id": call["id"], "name": "run"})
    tools = None
    if rng.random() < 0.5:
        tools = [
            {"type": "function", "function": {"name": "get_weather", "description": " Weather. ", "parameters": {
                "type": "object", "properties": {
                    "city": {"type": "string", "description": "A city, e.g. \"Zürich\" <b>"},
                    "days": {"type": ["integer", "null"], "minimum": 1, "default": 3.0},
                    "unit": {"type": "string", "enum": ["C", "F"]}},
                "required": ["city"], "additionalProperties": False}, "strict": True}},
            {"type": "function", "function": {"name": "ping", "parameters": {"type": "object", "properties": {}}}},
        ][: rng.randint(0, 2)]
    variables = {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": rng.random() < 0.7,
                 "bos_token": "<s>", "eos_token": "</s>"}
    if rng.random() < 0.3:
        variables["enable_thinking"] = rng.random() < 0.5
    if rng.random() < 0.2:
        variables["truncate_history_thinking"] = rng.random() < 0.5
    return variables


def template_sources():
    """(name, source) of the templates that conversations are rendered with."""
    for path in sorted(template_cases.TEMPLATE_DIR.glob("*.jinja")):
        yield path.stem, path.read_text()
    yield from template_cases.packaged_templates()
    reference = os.environ.get("NEMOFORGE_REFERENCE_TEMPLATE")  # the checkpoint's own, where the tester has it
    if reference:
        yield "reference", pathlib.Path(reference).read_text()


def main():
    warnings.simplefilter("ignore", SyntaxWarning)  # of the Python that Jinja2 makes of odd templates
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--random", type=int, default=400, help="random cases of each kind")
    arguments.add_argument("--render", action="store_true", help="render the cases of stdin")
    options = arguments.parse_args()
    if options.render:
        for line in sys.stdin:
            case = json.loads(line)
            print(json.dumps(render(case["source"], case["variables"])))
        return
    print(json.dumps(VALUES))
    for expression in template_cases.EXPRESSIONS:
        emit(expression, "{{ " + expression + " }}", {})
    for name, source, variables in template_cases.STATEMENTS:
        emit(name, source, variables)
    rng = random.Random(options.seed)
    for make in (random_expression_case, random_white_space_case, random_format_case, random_broken_case):
        for idx in range(options.random):
            make(rng, idx)
    for name, source in template_sources():
        for idx in range(max(options.random // 10, 1)):
            emit(f"{name} {idx}", source, random_conversation(rng), shared=False)


main()
