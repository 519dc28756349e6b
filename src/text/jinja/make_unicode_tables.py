"""Writes unicode_tables.inc beside this script: the character properties and case mappings of the running Python
(Python 3.11 has Unicode 14), which the template language's string functions follow.

    python3 make_unicode_tables.py
"""

import pathlib
import sys
import unicodedata

POINTS = [c for c in range(sys.maxunicode + 1) if not 0xD800 <= c <= 0xDFFF]


def ranges(predicate):
    """The maximal runs of code points that satisfy the predicate, as (first, last)."""
    runs = []
    for c in POINTS:
        if not predicate(chr(c)):
            continue
        if runs and runs[-1][1] == c - 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    return runs


def case_runs(mapping):
    """Single-character mappings as runs (first, last, stride, delta)."""
    runs = []
    for c in POINTS:
        mapped = mapping(chr(c))
        if len(mapped) != 1 or mapped == chr(c):
            continue
        delta = ord(mapped) - c
        last = runs[-1] if runs else None
        if last and last[3] == delta and last[0] == last[1] and c - last[1] in (1, 2):
            last[1], last[2] = c, c - last[1]
        elif last and last[3] == delta and last[1] + last[2] == c:
            last[1] = c
        else:
            runs.append([c, c, 1, delta])
    return runs


def is_case_ignorable(char):
    """Skipped when the final sigma rule looks for a neighbouring letter."""
    return ("A\u03a3" + char).lower()[1] == "\u03c2" and ("A\u03a3" + char + "B").lower()[1] == "\u03c3"


def write_rows(out, rows, width):
    line = ""
    for row in rows:
        cell = "{" + ", ".join(row) + "}, "
        if len(line) + len(cell) > width:
            out.append("    " + line.rstrip())
            line = ""
        line += cell
    out.append("    " + line.rstrip())


def main():
    out = [
        f"// Written by make_unicode_tables.py from Unicode {unicodedata.unidata_version}; do not edit.",
        "// clang-format off",
    ]
    sets = {
        "kAlphabetic": str.isalpha,
        "kDecimal": str.isdecimal,
        "kDigit": str.isdigit,
        "kNumeric": str.isnumeric,
        "kLowercase": str.islower,
        "kUppercase": lambda c: c.isupper(),
        "kTitlecase": lambda c: c.istitle() and not c.isupper(),
        "kPrintable": str.isprintable,
        "kCaseIgnorable": is_case_ignorable,
    }
    for name, predicate in sets.items():
        out.append(f"constexpr CodePointRange {name}[] = {{")
        write_rows(out, [[f"0x{a:x}", f"0x{b:x}"] for a, b in ranges(predicate)], 104)
        out.append("};")
    for name, mapping in {"kToUpper": str.upper, "kToLower": str.lower, "kToTitle": str.title}.items():
        out.append(f"constexpr CaseRun {name}[] = {{")
        write_rows(out, [[f"0x{a:x}", f"0x{b:x}", str(s), str(d)] for a, b, s, d in case_runs(mapping)], 104)
        out.append("};")
    out.append("constexpr SpecialCase kSpecialCases[] = {")
    for c in POINTS:
        forms = [chr(c).upper(), chr(c).lower(), chr(c).title()]
        if any(len(form) > 1 for form in forms):
            cells = ['"' + "".join(f"\\x{b:02x}\"\"" for b in form.encode()) + '"' for form in forms]
            out.append(f"    {{0x{c:x}, " + ", ".join(cell.replace('""', '" "')[:-2].rstrip() for cell in cells) + "},")
    out.append("};")
    pathlib.Path(__file__).with_name("unicode_tables.inc").write_text("\n".join(out) + "\n")


main()
