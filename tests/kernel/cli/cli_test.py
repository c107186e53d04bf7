"""The program `caller` as a user calls it. Usage: cli_test.py PROGRAM"""

import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import tempfile
import unittest

from environment import bare
from jupyter_client.kernelspec import KernelSpecManager

PROGRAM = ""
COMPLETION = pathlib.Path(__file__).resolve().parents[3] / "share/completions/caller"


class CommandLine(unittest.TestCase):
    def setUp(self):
        self._directory = tempfile.TemporaryDirectory()
        self.addCleanup(self._directory.cleanup)
        self.home = pathlib.Path(self._directory.name)
        self.environment = bare(HOME=self.home)

    def call(self, *arguments):
        return subprocess.run(
            [PROGRAM, *arguments], env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )

    def installed(self, name="caller"):
        manager = KernelSpecManager(kernel_dirs=[str(self.home / ".local/share/jupyter/kernels")])
        return manager.get_kernel_spec(name)

    def test_help_names_every_command(self):
        top = self.call("--help")
        self.assertEqual(top.returncode, 0)
        self.assertIn("kernel", top.stdout)
        answer = self.call("kernel", "--help")
        self.assertEqual(answer.returncode, 0)
        for command in ("install", "uninstall", "list", "start"):
            self.assertIn(command, answer.stdout)

    def test_version_is_one_line(self):
        answer = self.call("--version")
        self.assertEqual(answer.returncode, 0)
        self.assertRegex(answer.stdout, r"\Acaller \d+\.\d+\.\d+\n\Z")

    def test_wrong_usage_is_one_sentence_that_says_what_to_do(self):
        for arguments, parts in {
            (): ["a command is missing after `caller`", "kernel"],
            ("dance",): ["there is no command `caller dance`", "kernel", "tube"],
            ("kernel",): ["a command is missing after `caller kernel`; there are install, uninstall, list, start"],
            ("kernel", "dance"): ["there is no command `caller kernel dance`", "install"],
            ("kernel", "start"): ["--connection-file", "`caller kernel start --help`"],
            ("--no-such",): ["there is no option --no-such; `caller --help`"],
            ("kernel", "install", "--no-such"): ["there is no option --no-such", "`caller kernel install --help`"],
            ("kernel", "install", "--user", "--sys-prefix"): ["at most one of --user, --sys-prefix, --prefix can be given", "`caller kernel install --help`"],
            ("kernel", "install", "--prefix"): ["--prefix needs PREFIX; `caller kernel install --help`"],
            ("kernel", "list", "twice"): ['`caller kernel list` takes no "twice"', "`caller kernel list --help`"],
        }.items():
            answer = self.call(*arguments)
            self.assertEqual((answer.returncode, answer.stdout), (2, ""), arguments)
            self.assertRegex(answer.stderr, r"\Acaller: [^\n]+\n\Z", arguments)
            for part in parts:
                self.assertIn(part, answer.stderr)

    def test_colours_are_for_terminals_that_want_them(self):
        for environment, expected in (
            ({"TERM": "xterm"}, "\x1b[31mcaller:\x1b[0m "), ({"TERM": "xterm", "NO_COLOR": "1"}, "caller: "), ({"TERM": "dumb"}, "caller: "), ({}, "caller: "),
        ):  # fmt: skip
            ours, theirs = pty.openpty()
            with open(ours, "rb", buffering=0) as screen:
                subprocess.run(
                    [PROGRAM, "dance"], env={**self.environment, **environment}, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                    timeout=30, check=False,
                )  # fmt: skip
                shown = screen.read(10_000).decode()
                os.close(theirs)
            self.assertTrue(shown.startswith(expected + "there is no command"), (environment, shown))
        self.assertNotIn("\x1b", self.call("dance").stderr)

    def test_jupyter_finds_what_install_wrote(self):
        answer = self.call("kernel", "install", "--user", "--env", "A=1", "--env", "B=x y", "--cxxflags", "-O2 -DX")
        self.assertEqual((answer.returncode, answer.stderr), (0, ""))
        spec = self.installed()
        self.assertEqual(spec.argv[1:], ["kernel", "start", "-f", "{connection_file}", "--cxxflags=-O2 -DX"])
        self.assertTrue(os.path.samefile(spec.argv[0], PROGRAM))
        self.assertEqual(spec.display_name, "C++20 (Caller)")
        self.assertEqual(spec.language, "c++")
        self.assertEqual(spec.interrupt_mode, "message")
        self.assertEqual(spec.env, {"A": "1", "B": "x y"})
        directory = pathlib.Path(spec.resource_dir)
        self.assertEqual(json.loads((directory / "kernel.json").read_text())["kernel_protocol_version"], "5.5")
        for size in (32, 64):
            logo = (directory / f"logo-{size}x{size}.png").read_bytes()
            self.assertEqual(logo[:8], b"\x89PNG\r\n\x1a\n")
            self.assertEqual(int.from_bytes(logo[16:20], "big"), size)
        self.assertTrue((directory / "logo-svg.svg").read_text().startswith("<svg"))

    def test_an_install_that_fails_says_nothing_else(self):
        answer = self.call("kernel", "install", "--name", "a b")
        self.assertEqual((answer.returncode, answer.stdout), (1, ""))
        self.assertRegex(answer.stderr, r'\Acaller: "a b" cannot name a kernelspec: [^\n]+\n\Z')

    def test_list_and_uninstall(self):
        self.assertIn("No kernelspec", self.call("kernel", "list").stdout)
        self.assertEqual(json.loads(self.call("kernel", "list", "--json").stdout), [])
        self.call("kernel", "install", "--name", "Two", "--display-name", "Second one")
        listed = self.call("kernel", "list").stdout
        self.assertIn("two", listed)
        self.assertIn("Second one", listed)
        (entry,) = json.loads(self.call("kernel", "list", "--json").stdout)
        self.assertEqual((entry["name"], entry["display_name"], entry["runnable"]), ("two", "Second one", True))
        self.assertTrue(os.path.samefile(entry["program"], PROGRAM))
        self.assertEqual(self.call("kernel", "uninstall", "--name", "two").returncode, 0)
        answer = self.call("kernel", "uninstall", "--name", "two")
        self.assertNotEqual(answer.returncode, 0)
        self.assertIn("two", answer.stderr)
        self.assertIn("`caller kernel list`", answer.stderr)

    def test_a_kernelspec_for_another_place(self):
        answer = self.call("kernel", "install", "--prefix", str(self.home / "root/usr"), "--program", "/usr/bin/caller")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        spec = json.loads((self.home / "root/usr/share/jupyter/kernels/caller/kernel.json").read_text())
        self.assertEqual(spec["argv"][0], "/usr/bin/caller")
        answer = self.call("kernel", "install", "--prefix", str(self.home / "other"), "--program", "bin/caller")
        self.assertIn("whole path", answer.stderr)
        self.assertFalse((self.home / "other").exists())

    def completed(self, *words):
        """What bash offers for the last word."""
        script = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _caller; printf "%s\\n" "${COMPREPLY[@]}"'
        answer = subprocess.run(
            ["bash", "-c", script, str(COMPLETION), *words], cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=30, check=True
        )
        self.assertEqual(answer.stderr, "")
        return set(answer.stdout.split())

    def options(self, help_text):
        return {option for option in re.findall(r"^ +(?:-\w+,)?(--[a-z][a-z-]*|-\w\b)", help_text, re.MULTILINE)}

    def test_help_and_completion_name_the_same_commands_and_options(self):
        commands = [()]
        leaves = 0
        while commands:
            words = commands.pop()
            answer = self.call(*words, "--help")
            self.assertEqual((answer.returncode, answer.stderr), (0, ""), words)
            self.assertNotIn("\x1b", answer.stdout)
            offered = self.completed("caller", *words, "--") | self.completed("caller", *words, "")
            parts = answer.stdout.split("Subcommands:\n")
            below = re.findall(r"^  (\w+)", parts[1], re.MULTILINE) if len(parts) > 1 else []
            self.assertEqual({word for word in offered if not word.startswith("-")}, set(below), words)
            self.assertEqual({o for o in offered if o.startswith("--")}, {o for o in self.options(parts[0]) if o.startswith("--")}, words)
            commands += [(*words, name) for name in below]
            leaves += not below
        self.assertGreater(leaves, 4)

    def test_completion_knows_values_and_files(self):
        (self.home / "graph.yaml").touch()
        (self.home / "folder").mkdir()
        self.assertEqual(self.completed("caller", "tube", "run", "gr"), {"graph.yaml"})
        self.assertEqual(self.completed("caller", "tube", "run", "--runner", "s"), {"sync"})
        self.assertEqual(self.completed("caller", "runner", "start", "--runner", "p"), {"process", "persistent_process"})
        self.assertEqual(self.completed("caller", "task", "list", "--status", "SU"), {"SUCCESS"})
        self.assertEqual(self.completed("caller", "tube", "run", "--path", ""), {"folder"})

    def test_prefix(self):
        prefix = self.home / "p"
        answer = self.call("kernel", "install", "--prefix", str(prefix))
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertTrue((prefix / "share/jupyter/kernels/caller/kernel.json").is_file())
        self.assertFalse((self.home / ".local").exists())
        both = self.call("kernel", "install", "--user", "--prefix", str(prefix))
        self.assertNotEqual(both.returncode, 0)

    def test_bad_names_and_variables_write_nothing(self):
        for arguments in (["--name", "../x"], ["--name", "a b"], ["--name", ".."], ["--env", "novalue"]):
            answer = self.call("kernel", "install", *arguments)
            self.assertNotEqual(answer.returncode, 0, arguments)
            self.assertIn(arguments[1], answer.stderr)
        self.assertEqual(list(self.home.iterdir()), [])


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
