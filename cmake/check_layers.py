"""Checks who includes whom, and that no file is long. Usage: check_layers.py [ROOT]

The rules stand in the tables below; docs/ARCHITECTURE.md says why. A line per violation, exit code 1 if there is one.
"""

import pathlib
import re
import sys

SUFFIXES = {".cpp", ".hpp", ".h", ".cc"}
LONGEST = 500  # lines: a file says one thing, best in 100 to 300
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)

# Which part may include which other parts of this project.
ALLOWED = {
    "runtime": {"runtime"},
    "tube": {"tube", "runtime"},
    "task": {"task", "runtime"},
    "monitor": {"monitor", "task", "runtime"},
    "kernel": {"kernel", "protocol", "interpreter", "debugger", "runtime", "tube", "task", "monitor"},
    "protocol": {"protocol", "runtime"},
    "debugger": {"debugger", "runtime"},
    "interpreter": {"interpreter", "runtime", "kernel"},
}

# The public headers that include a third-party library: opt-in, for those who use Asio themselves.
BRIDGES = (
    "caller/include/caller/asio.hpp",
    "caller/include/caller/detail/asio_loop.hpp",
    "caller/include/caller/detail/asio_operation.hpp",
)

# Third-party headers and the only places that may include them.
HOMES = {
    # The sources of this project that use sockets themselves; they keep Asio's symbols to themselves.
    "Boost": (r"boost/", BRIDGES + ("caller/src/task/redis/link.cpp", "caller/src/monitor/http.cpp")),
    "libuv": (r"uv\.h$|uv/", ("caller/src/runtime/uv_driver.cpp",)),
    "libyaml": (r"yaml\.h$|yaml-cpp/", ("caller/src/tube/tree.cpp", "caller/src/task/config/yaml.cpp")),
    "toml++": (r"toml\+\+/", ("caller/src/task/config/toml.cpp",)),
    "SQLite": (r"sqlite3|SQLiteCpp/", ("caller/src/task/sqlite/", "kernel/src/protocol/history", "kernel/src/session/history")),
    "hiredis": (r"hiredis/", ("caller/src/task/redis/",)),
    "ZeroMQ": (r"zmq", ("kernel/src/protocol/", "kernel/src/xeus/", "caller/src/tube/")),
    "OpenSSL": (r"openssl/", ("kernel/src/protocol/", "caller/src/task/identity.cpp")),
    "clang and LLVM": (r"(clang|clang-c|llvm|llvm-c)/", ("kernel/src/interpreter/",)),
    "xeus": (r"xeus/", ("kernel/src/xeus/",)),
    "JSON": (r"nlohmann/", ("kernel/src/", "caller/src/")),
    "CLI11": (r"CLI/", ("kernel/src/cli/",)),
}


def part_of(path):
    """The layer a source file of this project belongs to."""
    if path.startswith("kernel/"):
        for part in ("protocol", "interpreter", "debugger"):
            if path.startswith(f"kernel/src/{part}/"):
                return part
        return "kernel"
    for part in ("tube", "task", "monitor"):
        if path.startswith((f"caller/include/caller/{part}/", f"caller/include/caller/{part}.hpp", f"caller/src/{part}/")):
            return part
    return "runtime"


def target_of(path, form, name, files):
    """The project file an include names, or None for a header from elsewhere."""
    if form == '"':
        beside = (pathlib.PurePosixPath(path).parent / name).as_posix()
        parts = []
        for piece in beside.split("/"):
            if piece == "..":
                parts.pop()
            elif piece != ".":
                parts.append(piece)
        if "/".join(parts) in files:
            return "/".join(parts)
    for base in ("caller/include/", "kernel/include/", "caller/src/", "kernel/src/"):
        if base + name in files:
            return base + name
    return None


def violations(root):
    files = {
        path.relative_to(root).as_posix(): path
        for top in ("caller", "kernel")
        for path in sorted((root / top).rglob("*"))
        if path.suffix in SUFFIXES
    }
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        public = "/include/" in name
        for match in INCLUDE.finditer(text):
            form, header = match.groups()
            where = f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
            target = target_of(name, form, header, files)
            if target is not None:
                if part_of(target) not in ALLOWED[part_of(name)]:
                    yield f"{where}: {part_of(name)} must not include {part_of(target)} ({header})"
                if public and "/src/" in target:
                    yield f"{where}: a public header must not include a private one ({header})"
                continue
            for library, (pattern, homes) in HOMES.items():
                if re.match(pattern, header) and not name.startswith(homes):
                    yield f"{where}: {library} is included outside its home ({header})"
            if public and name not in BRIDGES and not re.fullmatch(r"[a-z0-9_]+", header):
                yield f"{where}: a public header includes only the standard library and caller/… ({header})"


def long_files(root):
    for top in ("bench", "caller", "cmake", "examples", "kernel", "tests"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in SUFFIXES | {".py", ".js", ".sh", ".cmake"}:
                lines = len(path.read_text(encoding="utf-8").splitlines())
                if lines > LONGEST:
                    yield f"{path.relative_to(root)}: {lines} lines, of {LONGEST} at most: it says more than one thing"


def main(root="."):
    found = [*violations(pathlib.Path(root)), *long_files(pathlib.Path(root))]
    for line in found:
        print(line)
    print(f"{len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
