"""./run and ./test as a newcomer calls them, in a copy of the tree whose build is already there, and what they say when
something is missing: one sentence that says what to do.

Usage: commands_test.py SOURCE PREFIX   (PREFIX: where Caller is installed)
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = PREFIX = None
# Stands for cmake and ctest: the build is linked to what is installed, one test passes.
CMAKE = """#!/bin/sh
case "$*" in
  *--version*) echo "cmake version ${FAKE_CMAKE_VERSION:-3.25.1}" ;;
  *--build*) mkdir -p "$2/bin"; ln -sf "$FAKE_PREFIX/bin/caller" "$2/bin/caller" ;;
  *) mkdir -p "$2/build/release" "$2/build/ci"; echo "-- Tests of something: OFF (not found: it)" ;;
esac
"""
CTEST = """#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --output-junit ] && file=$2; shift; done
echo '<testsuite tests="1" failures="0"><testcase name="it works" status="run" time="1"/></testsuite>' > "$file"
"""


class Commands(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name).resolve()
        self.tree = self.root / "tree"
        self.tree.mkdir()
        for name in ("run", "test"):
            shutil.copy(SOURCE / name, self.tree)
        for name in ("cmake", "notebooks"):
            shutil.copytree(SOURCE / name, self.tree / name)
        self.bin = self.root / "bin"
        self.bin.mkdir()
        for name, text in (("cmake", CMAKE), ("ctest", CTEST)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        home = self.root / "home"
        home.mkdir()
        self.environment = {
            "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home), "LANG": "C.UTF-8", "CALLER_SKIP_BOOTSTRAP": "1",
            "FAKE_PREFIX": str(PREFIX), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

    def call(self, *command, **environment):
        return subprocess.run(
            command, cwd=self.tree, env={**self.environment, **environment}, capture_output=True, text=True, timeout=400, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def assert_sentence(self, answer, *parts):
        """It fails, and the last thing it says is one sentence with these parts."""
        self.assertNotEqual(answer.returncode, 0)
        last = answer.stderr.strip().splitlines()[-1]
        for part in parts:
            self.assertIn(part, last)
        self.assertNotIn("Traceback", answer.stderr)

    def without_module(self, module):
        """A folder for PYTHONPATH in which the module cannot be imported."""
        folder = self.root / f"no-{module}"
        folder.mkdir()
        (folder / f"{module}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{module}'\", name='{module}')\n")
        return str(folder)

    def test_run_executes_the_first_notebook_and_shows_it(self):
        answer = self.call("./run")
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertIn("hello world! from My caller1", answer.stdout)
        self.assertIn("<html", (self.tree / "out/01_caller.html").read_text(encoding="utf-8"))
        self.assertTrue((self.root / "home/.local/share/jupyter/kernels/caller/kernel.json").is_file())
        self.assertNotIn("\x1b", answer.stdout, "colour is for terminals")

    def test_test_says_in_its_last_line_how_many_passed(self):
        answer = self.call("./test")
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertRegex(answer.stdout.strip().splitlines()[-1], r"\b1 passed")

    def test_both_explain_themselves(self):
        for command in ("./run", "./test"):
            answer = self.call(command, "--help")
            self.assertEqual(answer.returncode, 0)
            self.assertIn(f"Usage: {command}", answer.stdout)
            wrong = self.call(command, "dance")
            self.assertEqual((wrong.returncode, wrong.stdout), (2, ""))
            self.assert_sentence(wrong, f"there is no `{command} dance`", f"`{command} --help`")

    def test_an_old_cmake(self):
        self.assert_sentence(self.call("./run", FAKE_CMAKE_VERSION="3.18.4"), "CMake 3.25 or later", "is 3.18.4", "install")

    def test_a_tool_that_is_missing(self):
        for tool in ("bash", "dirname", "mkdir", "sed", "sort", "head", "cat"):
            (self.bin / tool).symlink_to(f"/usr/bin/{tool}")
        self.assert_sentence(self.call("/usr/bin/bash", "./run", PATH=str(self.bin)), "ninja is not installed", "apt-get install")

    def test_no_jupyter(self):
        for mode, module, package in (
            ("all", "nbclient", "python3-nbclient"), ("notebook", "notebook", "jupyter-notebook"),
            ("console", "jupyter_console", "jupyter-console"),
        ):  # fmt: skip
            answer = self.call("./run", mode, PYTHONPATH=self.without_module(module))
            self.assert_sentence(answer, f"cannot import {module}", f"apt-get install {package}")

    def test_a_kernel_that_is_not_installed(self):
        script = [sys.executable, "cmake/run_notebook.py", "notebooks/01_caller.ipynb", "out/page.html"]
        self.assert_sentence(self.call(*script, JUPYTER_PATH="/nowhere"), 'no kernel "caller"', "caller kernel install --user")
        answer = self.call(*script, PYTHONPATH=self.without_module("nbclient"))
        self.assert_sentence(answer, "cannot import nbclient", "apt-get install")


class Package(unittest.TestCase):
    def compile(self, *flags):
        return subprocess.run(
            ["g++", *flags, "-fsyntax-only", "-x", "c++", f"-I{PREFIX}/include", "-"], input="#include <caller/all.hpp>\nint main() {}\n",
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    def test_the_wrong_standard(self):
        answer = self.compile("-std=c++17")
        self.assertNotEqual(answer.returncode, 0)
        errors = [line for line in answer.stderr.splitlines() if "error:" in line]
        self.assertIn("Caller is C++20: compile with -std=c++20", errors[0])
        self.assertLessEqual(len(errors), 2)
        self.assertEqual(self.compile("-std=c++20").returncode, 0)

    def test_a_component_that_does_not_exist(self):
        with tempfile.TemporaryDirectory() as folder:
            text = "cmake_minimum_required(VERSION 3.25)\nproject(x LANGUAGES CXX)\nfind_package(caller 0.1 REQUIRED COMPONENTS runtime kernels)\n"
            pathlib.Path(folder, "CMakeLists.txt").write_text(text)
            answer = subprocess.run(
                ["cmake", "-S", folder, "-B", f"{folder}/build", f"-DCMAKE_PREFIX_PATH={PREFIX}"], capture_output=True, text=True, timeout=200,
                check=False,
            )  # fmt: skip
            self.assertNotEqual(answer.returncode, 0)
            self.assertIn('caller has no component "kernels"; there are runtime, tube, task, monitor, kernel, asio, uv.', " ".join(answer.stderr.split()))


if __name__ == "__main__":
    PREFIX = pathlib.Path(sys.argv.pop())
    SOURCE = pathlib.Path(sys.argv.pop())
    unittest.main(verbosity=2)
