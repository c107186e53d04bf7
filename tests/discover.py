"""Writes a CTest file with a test for every TEST_CASE of a doctest program, after the program was built.

Usage: discover.py PROGRAM PREFIX OUTPUT.cmake [PROPERTY=VALUE …]

doctest's own script cannot take a name with a `;` or `[` in it.
"""

import subprocess
import sys


def quoted(text):
    return f"[==[{text}]==]"


def main(program, prefix, output, *properties):
    # A program that cannot even list its tests must fail the build.
    listing = subprocess.run([program, "--list-test-cases", "--no-colors"], capture_output=True, text=True, check=True, timeout=60)
    lines = listing.stdout.splitlines()
    bars = [i for i, line in enumerate(lines) if line.startswith("=====")]
    names = [line for line in lines[bars[0] + 1 : bars[-1]] if not line.startswith("=====")]
    if not names:
        sys.exit(f"{program} has no tests")
    settings = " ".join(" ".join(map(quoted, each.split("=", 1))) for each in properties).replace("%3B", ";")
    with open(output, "w", encoding="utf-8") as file:
        for name in dict.fromkeys(names):
            title = quoted(f"{prefix}:{name}")
            escaped = name.replace("\\", "\\\\").replace(",", "\\,")
            file.write(f"add_test({title} {quoted(program)} {quoted('--test-case=' + escaped)})\n")
            file.write(f"set_tests_properties({title} PROPERTIES {settings})\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
