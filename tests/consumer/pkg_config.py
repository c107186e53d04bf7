"""Builds and runs the program of each component with nothing but what pkg-config says.

Usage: pkg_config.py PREFIX FOLDER CXX VERSION COMPONENT…     PREFIX: where Caller is installed; "" for the system's
"""

import os
import pathlib
import subprocess
import sys
import tempfile


def main(prefix, folder, compiler, version, *components):
    environment = dict(os.environ)
    library_path = []
    if prefix:
        (path,) = pathlib.Path(prefix).glob("**/pkgconfig")
        environment["PKG_CONFIG_PATH"] = str(path)
        library_path = [str(path.parent)]
        environment["LD_LIBRARY_PATH"] = library_path[0]

    def ask(*arguments):
        return subprocess.run(["pkg-config", *arguments], env=environment, check=True, capture_output=True, text=True).stdout.split()

    with tempfile.TemporaryDirectory() as out:
        for component in components:
            package = f"caller-{component}"
            assert ask("--modversion", package) == [version], package
            source = pathlib.Path(folder) / f"{component}.cpp"
            program = f"{out}/{component}"
            rpath = [f"-Wl,-rpath-link,{name}" for name in library_path]
            subprocess.run(
                [compiler, "-std=c++20", str(source), "-o", program, *ask("--cflags", "--libs", package), *rpath],
                env=environment, check=True, timeout=200,
            )  # fmt: skip
            subprocess.run([program], env=environment, check=True, timeout=60)
            print(f"{package} {version}: built and ran")


if __name__ == "__main__":
    main(*sys.argv[1:])
