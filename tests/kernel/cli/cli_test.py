"""The program `caller` as a user calls it. Usage: cli_test.py PROGRAM"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from jupyter_client.kernelspec import KernelSpecManager

PROGRAM = ""


class CommandLine(unittest.TestCase):
    def setUp(self):
        self._directory = tempfile.TemporaryDirectory()
        self.addCleanup(self._directory.cleanup)
        self.home = pathlib.Path(self._directory.name)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.home)}

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

    def test_wrong_usage_is_an_error(self):
        for arguments in ([], ["kernel"], ["kernel", "dance"], ["kernel", "start"], ["kernel", "install", "--no-such"]):
            answer = self.call(*arguments)
            self.assertNotEqual(answer.returncode, 0, arguments)
            self.assertNotEqual(answer.stderr, "", arguments)

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

    def test_a_kernelspec_for_another_place(self):
        answer = self.call("kernel", "install", "--prefix", str(self.home / "root/usr"), "--program", "/usr/bin/caller")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        spec = json.loads((self.home / "root/usr/share/jupyter/kernels/caller/kernel.json").read_text())
        self.assertEqual(spec["argv"][0], "/usr/bin/caller")
        answer = self.call("kernel", "install", "--prefix", str(self.home / "other"), "--program", "bin/caller")
        self.assertIn("whole path", answer.stderr)
        self.assertFalse((self.home / "other").exists())

    def test_help_and_completion_name_the_same_options(self):
        completion = (pathlib.Path(__file__).resolve().parents[3] / "share/completions/caller").read_text()
        where = re.search(r'where="([^"]*)"', completion)[1]
        for words, options in re.findall(r'"(\w+ \w+)"\) words="([^"]*)"', completion):
            options = options.replace("$where", where)
            answer = self.call(*words.split(), "--help")
            self.assertEqual(answer.returncode, 0, words)
            shown = set(re.findall(r"--[a-z][a-z-]*", answer.stdout.split("Options:", 1)[1]))
            shown = {option for option in shown if re.search(rf"^ +(-\w+,)?{option}\b", answer.stdout, re.MULTILINE)}
            self.assertEqual({option for option in options.split() if option.startswith("--")}, shown, words)
            self.assertNotIn("\x1b", answer.stdout)

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
