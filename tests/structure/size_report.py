"""Reports sizes against the aims of the house.  Never fails: sizes are looked at, not enforced.

Usage: size_report.py [ROOT]
"""

import pathlib
import re
import sys

import check_structure

# What is measured: aim, and where to look again.
HEADER, SOURCE, FUNCTION, FOLDER = (100, 150), (200, 350), (25, 40), (8, 12)
NOT_A_FUNCTION = re.compile(r"(namespace|class|struct|enum|union|extern|using|const|constexpr)\b")


def line_count(path):
    return len(path.read_text().splitlines())


def functions(text):
    """Yields (name, lines) of the functions that start at column 0, as clang-format lays them out."""
    start, signature = None, ""
    for number, line in enumerate(text.splitlines()):
        if start is None and line.endswith("{") and re.match(r"[A-Za-z~ ]", line):
            head = line if not line.startswith(" ") else signature + line
            called = re.search(r"([\w:~]+)\s*\(", head)  # none for a lambda at the top
            if head[:1].isalpha() and called and not NOT_A_FUNCTION.match(head):
                start, name = number, called.group(1)
        elif start is not None and line.startswith("}"):
            yield name, number - start + 1
            start = None
        # A signature may run over several lines.
        signature = line if re.match(r"[A-Za-z]", line) else signature + line


def over(rows, limits):
    return [row for row in sorted(rows, key=lambda row: -row[1]) if row[1] > limits[0]]


def report(root):
    """The lines of the report."""
    paths = list(check_structure.source_files(root))
    product = [p for p in paths if p.parts[0] in ("server", "client")]
    tests = [p for p in paths if p.parts[0] == "tests"]
    lines = {p: line_count(root / p) for p in paths}
    folders = {}
    for path in product:
        folders[path.parent] = folders.get(path.parent, 0) + 1
    sections = (
        ("headers", HEADER, [(p.as_posix(), lines[p]) for p in product if p.suffix == ".h"]),
        ("sources", SOURCE, [(p.as_posix(), lines[p]) for p in product if p.suffix == ".cc"]),
        ("functions", FUNCTION,
         [(f"{p.as_posix()} {name}", size) for p in product if p.suffix == ".cc"
          for name, size in functions((root / p).read_text())]),
        ("files per folder", FOLDER, [(p.as_posix(), n) for p, n in folders.items()]),
    )
    for title, limits, rows in sections:
        large = over(rows, limits)
        yield (f"{title}: {len(rows)}, largest {max((size for _, size in rows), default=0)}, "
               f"{len(large)} over the aim of {limits[0]}")
        for name, size in large:
            yield f"  {size:5}  {name}{'   look again' if size > limits[1] else ''}"
    product_lines = sum(lines[p] for p in product)
    test_lines = sum(lines[p] for p in tests) + sum(
        line_count(p) for p in (root / "tests").rglob("*.py") if "__pycache__" not in p.parts)
    yield (f"lines: {product_lines} in server/ and client/, {test_lines} in tests/, "
           f"ratio {test_lines / max(product_lines, 1):.2f} (aim 1.0)")


if __name__ == "__main__":
    print("\n".join(report(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve())))
