"""Fails when a backend runs fewer cases of the contract than there are.

Usage: check_contract.py PROGRAM CONTRACT.hpp BACKEND…
"""

import collections
import pathlib
import re
import subprocess
import sys


def main(program, header, *backends):
    promised = set(re.findall(r'TEST_CASE_TEMPLATE_DEFINE\(\s*"([^"]*)"', pathlib.Path(header).read_text(encoding="utf-8")))
    listing = subprocess.run([program, "--list-test-cases", "--no-colors"], capture_output=True, text=True, check=True, timeout=60)
    run = collections.defaultdict(set)
    for line in listing.stdout.splitlines():
        if case := re.fullmatch(r"(.*)<(\w+)>", line):
            run[case[2]].add(case[1])
    failed = not promised
    for backend in backends:
        for sentence in sorted(promised - run[backend]):
            print(f"{backend} does not run: {sentence}")
            failed = True
    for backend in sorted(set(run) - set(backends)):
        print(f"{backend} is not expected here: add it to the list in CMakeLists.txt")
        failed = True
    print(f"{len(promised)} cases, {len(backends)} backends")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
