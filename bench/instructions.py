#!/usr/bin/python3
"""Compares the instructions of each operation with the committed ones.

Usage: bench/instructions.py PROGRAM [--update] [--show]

PROGRAM is bench/caller_instructions of a Release build with shared libraries. The figures of bench/instructions.json are per
compiler. More than 10 % above them fails, and so does an allocation more, or any where none is allowed; more than 10 %
below asks for --update, which rewrites the figures of PROGRAM's compiler. Exit code 77: could not be measured here.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FIGURES = pathlib.Path(__file__).resolve().with_name("instructions.json")
TOLERANCE = 0.10
SKIPPED = 77


class Unmeasurable(Exception):
    """Why nothing can be measured here, in a sentence."""


def measure(program):
    """The compiler of a program and its rows: instructions and allocations of one operation, and whether any are allowed."""
    if shutil.which("valgrind") is None:
        raise Unmeasurable("valgrind is not installed (apt-get install valgrind)")
    with tempfile.TemporaryDirectory() as directory:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out", str(program)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if run.returncode != 0:
            sys.exit(f"{' '.join(command)} failed:\n{run.stdout}{run.stderr}")
        instructions = {}
        for dump in pathlib.Path(directory).glob("out.*"):
            text = dump.read_text(encoding="utf-8", errors="replace")
            row = re.search(r"^desc: Trigger: Client Request: (\S+)$", text, re.MULTILINE)
            if row:  # `summary` is what was executed; `totals` counts some of it twice
                instructions[row[1]] = int(re.search(r"^summary: (\d+)$", text, re.MULTILINE)[1])
    first, *lines = run.stdout.splitlines()
    if lines and not instructions:
        raise Unmeasurable("the program was built without valgrind's headers; build it again")
    rows = {}
    for name, operations, allocations, rule in (line.split() for line in lines):
        rows[name] = {
            "instructions": round(instructions[name] / int(operations), 1),
            "allocations": round(int(allocations) / int(operations), 3),
            "allocations allowed": rule == "allowed",
        }
    return first.removeprefix("compiler "), rows


def judge(rows, committed):
    """(failures, notes), a line each."""
    failures, notes = [], []
    for name, row in rows.items():
        if row["allocations"] > 0 and not row["allocations allowed"]:
            failures.append(f"{name}: {row['allocations']} allocations an operation once warm, where none is allowed")
        old = committed.get(name)
        if old is None:
            notes.append(f"{name}: not in {FIGURES.name}; --update adds it")
            continue
        change = row["instructions"] / old["instructions"] - 1
        text = f"{name}: {row['instructions']} instructions an operation, {change:+.1%} of {old['instructions']}"
        if change > TOLERANCE:
            failures.append(text)
        elif change < -TOLERANCE:
            notes.append(f"{text}: update the file (--update)")
        if row["allocations"] > old["allocations"] + 0.001:
            failures.append(f"{name}: {row['allocations']} allocations an operation, up from {old['allocations']}")
    failures.extend(f"{name}: in {FIGURES.name}, but not measured" for name in committed.keys() - rows.keys())
    return failures, notes


def write(figures):
    """A line a row, so that a change is read at a glance."""
    compilers = []
    for compiler, rows in sorted(figures.items()):
        lines = [f"    {json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(rows.items())]
        compilers.append(f"  {json.dumps(compiler)}: {{\n" + ",\n".join(lines) + "\n  }")
    FIGURES.write_text("{\n" + ",\n".join(compilers) + "\n}\n", encoding="utf-8")


def show(rows):
    print(f"{'operation':20} {'instructions':>12} {'allocations':>12}")
    for name, row in rows.items():
        print(f"{name:20} {row['instructions']:12.1f} {row['allocations']:12.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--update", action="store_true", help="rewrite the committed figures of this compiler")
    parser.add_argument("--show", action="store_true", help="show the figures and compare nothing")
    options = parser.parse_args()
    try:
        compiler, rows = measure(options.program)
    except Unmeasurable as reason:
        print(f"skipped: {reason}")
        return SKIPPED
    print(f"Compiler: {compiler}")
    show(rows)
    if options.show:
        return 0
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    if options.update:
        kept = ("instructions", "allocations")
        figures[compiler] = {name: {key: row[key] for key in kept} for name, row in rows.items()}
        write(figures)
        print(f"{FIGURES.name} has the figures of {compiler} now")
    elif compiler not in figures:
        print(f"skipped: {FIGURES.name} has no figures for {compiler}; --update adds them")
        return SKIPPED
    failures, notes = judge(rows, figures[compiler])
    for line in notes:
        print(f"note: {line}")
    for line in failures:
        print(f"FAILED: {line}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
