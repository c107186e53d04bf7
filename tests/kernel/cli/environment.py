"""The environment of a program that is called as if nothing were set up for it."""

import os

# Not the user's: where the build's libraries are, and what sanitizers are told.
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS")


def bare(**own):
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {name: str(value) for name, value in own.items()}
