"""Checks docs/SEEDS.md: what it names is there. Usage: check_seeds.py [ROOT]

In each table with a column `tests`: every name of ours stands somewhere in the sources, every test is a file below tests/,
and that file says at least one of the row's names. A line per mistake, exit code 1 if there is one.
"""

import pathlib
import re
import sys

SOURCES = ("caller", "kernel", "share", "notebooks", "examples")
SUFFIXES = {".hpp", ".cpp", ".py", ".ipynb", ".md", ".txt", ""}
CODE = re.compile(r"`([^`]+)`")
WORD = re.compile(r"[A-Za-z_]\w{2,}")


def tables(text):
    """(line, {heading: cell}) of each row of each table."""
    heads = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("|"):
            heads = None
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if heads is None:
            heads = cells
        elif not set("".join(cells)) <= set("-: "):
            if len(cells) != len(heads):
                yield number, None
            else:
                yield number, dict(zip(heads, cells))


def words(cell):
    """The identifiers in the code of a cell, in their order."""
    return list(dict.fromkeys(word for code in CODE.findall(cell) for word in WORD.findall(code)))


def main(root):
    text = (root / "docs/SEEDS.md").read_text(encoding="utf-8")
    paths = [p for top in SOURCES for p in (root / top).rglob("*") if p.is_file() and p.suffix in SUFFIXES]
    known = set()
    for path in paths:
        known |= set(WORD.findall(path.read_text(encoding="utf-8", errors="replace")))
        known |= set(WORD.findall(str(path.relative_to(root))))
    found = []
    rows = 0
    for number, row in tables(text):
        if row is None:
            found.append(f"{number}: the row has another number of cells than its heading")
            continue
        if "tests" not in row:
            continue
        rows += 1
        ours = words(row["ours"])
        found += [f"{number}: nothing of ours has the name {word}" for word in ours if word not in known]
        named = CODE.findall(row["tests"])
        if not named and not row["state"].startswith("missing"):
            found.append(f"{number}: no test is named")
        for name in named:
            path = root / "tests" / name
            if not path.is_file():
                found.append(f"{number}: there is no tests/{name}")
            elif not set(WORD.findall(path.read_text(encoding="utf-8"))) & set(ours + words(row["theirs"])):
                found.append(f"{number}: tests/{name} says none of the row's names")
    if rows == 0:
        found.append("0: no table has a column `tests`")
    for line in found:
        print(f"docs/SEEDS.md:{line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
