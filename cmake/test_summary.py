"""Shows what failed and the counts of several CTest runs.

Usage: test_summary.py NAME=JUNIT.xml=LOG …

The last two lines are plain: the number of tests run, then `N passed, N failed, N skipped`. The exit code is 1 when a
test failed, when a run left no results, or when none ran at all.
"""

import os
import sys
import xml.etree.ElementTree as ElementTree

LINES_SHOWN = 60


def failure_text(case):
    output = (case.findtext("system-out") or "").replace("[NON-XML-CHAR-0x1B]", "\x1b")
    lines = output.rstrip().splitlines()
    if len(lines) > LINES_SHOWN:
        lines = [f"[… {len(lines) - LINES_SHOWN} lines left out]", *lines[-LINES_SHOWN:]]
    return "\n".join("    " + line for line in lines)


def main(runs):
    passed = failed = skipped = 0
    for run in runs:
        name, junit, log = run.split("=")
        if not os.path.exists(junit):
            failed += 1
            print(f"\n{name}: ctest ended without results; its log is {log}")
            with open(log, encoding="utf-8", errors="replace") as file:
                print("".join("    " + line for line in file.readlines()[-LINES_SHOWN:]))
            continue
        for case in ElementTree.parse(junit).iter("testcase"):
            # CTest also files under "skipped" what it could not start; only a test's own decision counts as such.
            reason = case.find("skipped").get("message") if case.find("skipped") is not None else case.get("status")
            if case.get("status") == "run":
                passed += 1
            elif reason == "disabled" or reason.startswith("SKIP_"):
                skipped += 1
                print(f"skipped: {name}: {case.get('name')}")
            else:
                failed += 1
                print(f"\nFAILED: {name}: {case.get('name')} ({reason}, {float(case.get('time')):.1f} s)")
                print(failure_text(case))
    if failed:
        print("\nThe whole logs: " + " ".join(run.split("=")[2] for run in runs))
    print(f"\n{passed + failed} tests run")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
