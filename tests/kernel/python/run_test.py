"""Runs unit tests by name: run_test.py MODULE[.CLASS[.TEST]]. Exit code 77 when every test was skipped."""

import sys
import unittest

if __name__ == "__main__":
    suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:])
    if suite.countTestCases() == 0:
        sys.exit("no such test")
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if len(result.skipped) == result.testsRun else 0)
