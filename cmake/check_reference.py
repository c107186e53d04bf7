"""Makes the reference from the public headers and fails when anything in it is undocumented or wrong.

Usage: check_reference.py DOXYGEN DOXYFILE PROJECT

Each warning of doxygen is a failure, but for what the language already says of a symbol: copies, moves and assignments, the
parts that make a type a coroutine, awaitable or an iterator, and specialisations of templates of other libraries.
"""

import pathlib
import re
import subprocess
import sys

SAID_BY_THE_LANGUAGE = [
    # T(T&&), T(const T&), T& operator=(…), == that is defaulted
    r"Member (\w+)\((const )?\1(< \w+ >)? &&?\w*\)( noexcept)?(=default)? \(function\)",
    r"Member operator=\(",
    r"operator==\(.*=default",
    # what co_await, co_yield and range-for look for
    r"(Member|Compound) .*\b(promise_type|caller_awaitable|await_ready|await_suspend|await_resume|Awaiter)\b",
    r"Member operator co_await\(",
    r"Member (value_type|iterator_concept|difference_type|reference|iterator_category)\b",
    r"(Member|Compound) .*\b[Ii]terator\b",
    # std::hash, std::is_error_code_enum, boost::asio::async_result
    r"scope for class (std|boost)::.* not found",
    r"(Member|Compound) .*\b(boost::asio|std::hash)\b",
    # functions that are found by their names, for each type: how it is shown, its error codes; deduction guides
    r"Member (mime_bundle_repr|mime_metadata_repr|make_error_code)\(",
    r"Member (\w+)\(.*\) -> \w+<",
    # constructors of exceptions: their arguments are what the accessors give and what() says
    r"Member (?P<error>\w+Error)\(.*class \S+::(?P=error) is",
    # an idiom that doxygen takes for an error: a template derived from itself for another argument
    r"Detected potential recursive class relation .*::detail::",
]


def said_for_its_line(warning, project):
    """Variables declared in one line have one docstring, which doxygen gives to one of them."""
    match = re.match(r"(\S+):(\d+): warning: Member \w+ \(variable\)", warning)
    if not match:
        return False
    lines = (pathlib.Path(project) / match[1]).read_text(encoding="utf-8").splitlines()
    at = int(match[2]) - 1
    return ", " in lines[at].partition("//")[0] and ("///<" in lines[at] or lines[at - 1].lstrip().startswith("///"))


def main(doxygen, doxyfile, project):
    answer = subprocess.run([doxygen, doxyfile], cwd=project, capture_output=True, text=True, timeout=300, check=False)
    print(answer.stdout, end="")
    known = re.compile("|".join(SAID_BY_THE_LANGUAGE))
    wrong = sorted({line.replace(project + "/", "") for line in answer.stderr.splitlines() if line.strip() and not known.search(line)})
    wrong = [line for line in wrong if not said_for_its_line(line, project)]
    for line in wrong:
        print(line)
    if answer.returncode != 0:
        print(f"doxygen ended with {answer.returncode}")
    if wrong:
        print(f"{len(wrong)} warnings; each public symbol needs a docstring of the form that caller/include/caller/caller.hpp shows.")
    return 1 if wrong or answer.returncode != 0 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
