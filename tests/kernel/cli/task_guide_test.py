"""docs/tasks.md, docs/tasks_redis.md, docs/monitor.md and the task of README.md say what happens.

Usage: task_guide_test.py PROGRAM LIBRARY CLIENT README_PROGRAM REDIS(0|1). The programs are compiled from the guides.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

from environment import bare

PROGRAM = LIBRARY = CLIENT = README_PROGRAM = ""
REDIS = True
ROOT = pathlib.Path(__file__).resolve().parents[3]


class Guide(unittest.TestCase):
    def setUp(self):
        self._directory = tempfile.TemporaryDirectory()
        self.addCleanup(self._directory.cleanup)
        self.folder = pathlib.Path(self._directory.name)
        for name, target in (("caller", PROGRAM), ("libtasks.so", LIBRARY), ("client", CLIENT)):
            (self.folder / name).symlink_to(os.path.abspath(target))
        self.environment = bare(PATH=f"{self.folder}:{os.environ['PATH']}", HOME=self.folder)

    def page(self, name):
        """The text of a guide; the files it shows are written into the folder."""
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for language, file, content in re.findall(r"^```(toml|conf)\n# (\S+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            (self.folder / file).write_text(f"# {file}\n{content}")
        return text

    def redis(self):
        """A server with the settings of the page, on a free port of this machine; it ends with the test."""
        for _ in range(5):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            server = subprocess.Popen(  # somebody else may take the port meanwhile
                ["redis-server", "tasks.conf", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(self.folder)],
                cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            self.addCleanup(server.communicate)
            self.addCleanup(server.kill)
            for line in server.stdout:
                if "eady to accept connections" in line:
                    return f"127.0.0.1:{port}"
        self.fail("redis-server, one of the packages in cmake/bootstrap.sh, does not start")

    def check(self, shown, expected, command):
        """`…` stands for what is another every time."""
        pattern = ".*".join(re.escape(part) for part in expected.rstrip().split("…"))
        self.assertRegex(shown.rstrip(), rf"\A{pattern}\Z", command)

    def commands(self, text, count):
        """(command, what it prints) of each line in the blocks that are this test's."""
        blocks = re.findall(r"^<!-- test: cli_task_guide -->\n```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)
        self.assertEqual(len(commands), count)
        return commands

    def shell(self, command, **environment):
        answer = subprocess.run(
            ["bash", "-c", "enable -n caller; " + command], cwd=self.folder, env={**self.environment, **environment}, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        return answer.stderr + answer.stdout

    def follow(self, commands):
        """Executes them and compares what they print; what runs behind the others is ended by Ctrl-C."""
        runners = []
        for command, expected in commands:
            if command.endswith(" &"):
                runner = subprocess.Popen(
                    ["bash", "-c", "exec " + command[:-2]], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True
                )
                self.addCleanup(runner.communicate)
                self.addCleanup(runner.kill)
                runners.append(runner)
                self.check(runner.stdout.readline(), expected, command)
                continue
            self.check(self.shell(command), expected, command)
        for runner in runners:
            runner.send_signal(signal.SIGINT)
            self.assertEqual(runner.wait(30), 0)

    def test_the_guide_says_what_happens(self):
        self.follow(self.commands(self.page("tasks.md"), 6))

    def test_the_guide_of_redis_says_what_happens(self):
        if not REDIS:
            self.skipTest("built without Redis")
        text = self.page("tasks_redis.md")
        settings = self.folder / "caller.toml"
        settings.write_text(settings.read_text().replace("queue.example", self.redis()))
        self.follow(self.commands(text, 5))

    def test_the_guide_of_the_monitor_says_what_happens(self):
        if not REDIS:
            self.skipTest("built without Redis")
        self.page("tasks_redis.md")
        url = f"redis://worker:secret@{self.redis()}"
        settings = self.folder / "caller.toml"
        settings.write_text(settings.read_text().replace("redis://worker:secret@queue.example", url))
        self.follow([("caller runner start --app libtasks.so &", "Runner …"), ('./client "one two two"', "one 1\ntwo 2")])
        (call,) = json.loads(self.shell("caller task list --json"))
        (self.folder / "demo.db").touch()
        commands = self.commands(self.page("monitor.md"), 4)
        for command, expected in commands[:2]:  # the last one goes on
            monitor = subprocess.Popen(
                ["bash", "-c", f"enable -n caller; exec {command.replace('redis://localhost', url)} --port 0"], cwd=self.folder, env=self.environment,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            self.addCleanup(monitor.communicate)
            self.addCleanup(monitor.kill)
            lines = [monitor.stdout.readline() for _ in expected.splitlines()]
            self.check("".join(lines), expected.replace("8787", "…"), command)
        address, _, token = lines[0].strip().partition("/#token=")
        for command, expected in commands[2:]:
            shown = self.shell(command.replace("http://127.0.0.1:8787", address), TOKEN=token, KEY=call["id"], no_proxy="*")
            self.check(shown, expected, command)

    def test_the_task_of_the_readme_gives_its_sum(self):
        answer = subprocess.run([README_PROGRAM], cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((answer.returncode, answer.stdout, answer.stderr), (0, "3\n", ""))
        self.assertTrue((self.folder / "demo.db").exists())


if __name__ == "__main__":
    REDIS = sys.argv.pop() not in ("0", "")
    README_PROGRAM = sys.argv.pop()
    CLIENT = sys.argv.pop()
    LIBRARY = sys.argv.pop()
    PROGRAM = sys.argv.pop()
    unittest.main(verbosity=2)
