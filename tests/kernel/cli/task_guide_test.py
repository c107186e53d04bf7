"""docs/tasks.md and the task of README.md say what happens.

Usage: task_guide_test.py PROGRAM LIBRARY CLIENT README_PROGRAM REDIS(0|1). The programs are compiled from the guides.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

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
        self.environment = {"PATH": f"{self.folder}:{os.environ['PATH']}", "HOME": str(self.folder)}

    def redis(self):
        """A server on a socket in the test's folder, which ends with the test."""
        path = self.folder / "redis.sock"
        server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(server.communicate)
        self.addCleanup(server.kill)
        for line in server.stdout:
            if "eady to accept connections" in line:
                return f"unix://{path}"
        self.fail("redis-server, one of the packages in cmake/bootstrap.sh, does not start")

    def check(self, shown, expected, command):
        """`…` stands for what is another every time."""
        pattern = ".*".join(re.escape(part) for part in expected.rstrip().split("…"))
        self.assertRegex(shown.rstrip(), rf"\A{pattern}\Z", command)

    def test_the_guide_says_what_happens(self):
        text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
        ((name, settings),) = re.findall(r"```toml\n# (\S+)\n(.*?)```", text, re.DOTALL)
        (self.folder / name).write_text(f"# {name}\n{settings}")
        if REDIS:
            text = text.replace("redis://queue.example", self.redis())
        else:
            text = text.split("## Tasks on Redis")[0]
        blocks = re.findall(r"^<!-- test: cli_task_guide -->\n```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)  # the others build
        commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)
        self.assertEqual(len(commands), 9 if REDIS else 6)
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
            answer = subprocess.run(
                ["bash", "-c", "enable -n caller; " + command], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=False
            )
            self.check(answer.stderr + answer.stdout, expected, f"{command}: {answer.returncode}")
        for runner in runners:
            runner.send_signal(signal.SIGINT)
            self.assertEqual(runner.wait(30), 0)

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
