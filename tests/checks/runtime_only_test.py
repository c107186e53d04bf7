"""The executor alone, as a static library: built, installed, and used by a program and as part of another project.

Usage: runtime_only_test.py SOURCE WORK GENERATOR COMPILER
"""

import os
import pathlib
import shutil
import subprocess
import sys

SOURCE, WORK = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
GENERATOR, COMPILER = sys.argv[3:5]
PROGRAM = """#include <caller/all.hpp>
#include <cstdio>

int main() {
  caller::Caller worker(caller::new_thread, {.name = "alone"});
  std::puts(worker.call_soon([] { return caller::Caller::current().name(); }).wait().c_str());
}
"""
HOST = """cmake_minimum_required(VERSION 3.25)
project(host LANGUAGES CXX)
set(CALLER_RUNTIME_ONLY ON)
add_subdirectory({source} caller)
add_executable(host program.cpp)
target_link_libraries(host PRIVATE caller::runtime)
"""


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, **options)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{result.stdout[-4000:]}{result.stderr[-4000:]}")
    return result.stdout


def main():
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    (WORK / "program.cpp").write_text(PROGRAM, encoding="utf-8")
    (WORK / "CMakeLists.txt").write_text(HOST.format(source=SOURCE), encoding="utf-8")
    common = ["-G", GENERATOR, f"-DCMAKE_CXX_COMPILER={COMPILER}"]
    if shutil.which("ccache"):
        common.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")

    build, prefix = WORK / "build", WORK / "prefix"
    run("cmake", "-S", SOURCE, "-B", build, *common, "-DCALLER_RUNTIME_ONLY=ON", "-DCALLER_TESTS=OFF", "-DBUILD_SHARED_LIBS=OFF",
        "-DCMAKE_BUILD_TYPE=Debug")
    run("cmake", "--build", build, "-j", os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", "2"))
    run("cmake", "--install", build, "--prefix", prefix)
    libraries = sorted(p.name for p in prefix.rglob("lib*caller*") if p.is_file())
    assert libraries == ["libcaller_runtime.a"], libraries
    headers = sorted(p.name for p in (prefix / "include" / "caller").iterdir() if p.is_dir())
    assert headers == ["detail"], headers

    packages = next(prefix.rglob("caller-runtime.pc")).parent
    flags = run("pkg-config", "--static", "--cflags", "--libs", "caller-runtime",
                env={**os.environ, "PKG_CONFIG_PATH": str(packages)}).split()
    run(COMPILER, "-std=c++20", WORK / "program.cpp", "-o", WORK / "program", *flags)
    assert run(WORK / "program") == "alone\n"

    run("cmake", "-S", WORK, "-B", WORK / "host", *common)
    cache = (WORK / "host" / "CMakeCache.txt").read_text(encoding="utf-8")
    assert "CMAKE_BUILD_TYPE:STRING=\n" in cache, "the build type of a host project is its own"


if __name__ == "__main__":
    main()
