"""Jupyter's clients with the real kernel: a console on a pseudo-terminal, `jupyter run`, an existing kernel."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import unittest

import support  # moves Jupyter's directories, so it comes first

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[=>78]|\([AB])")


class Terminal:
    """A program on a pseudo-terminal: type, wait for text."""

    def __init__(self, *command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", COLUMNS="120", LINES="40")
            os.execvp(command[0], command)
        self.text = ""

    def read(self, seconds):
        """Takes in what comes next; False when nothing does for so long."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        # A terminal answers the question where its cursor is; prompt_toolkit waits for that.
        if b"\x1b[6n" in data:
            os.write(self.fd, b"\x1b[1;1R")
        self.text += _ESCAPES.sub("", data.decode("utf-8", "replace"))
        return bool(data)

    def wait_for(self, text, timeout=60):
        """Waits for the text in what came since the last call."""
        deadline = time.monotonic() + timeout
        while text not in self.text:
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} did not appear in:\n{self.text}")
            self.read(0.2)
        self.text = self.text[self.text.index(text) + len(text) :]

    def type(self, text):
        os.write(self.fd, text.encode())

    def enter(self, line):
        """Types a line as a person does: at a prompt that has been drawn, and Enter after the text."""
        for text in (line, "\r"):
            while self.read(0.3):
                pass
            self.type(text)

    def close(self):
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        os.close(self.fd)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                return
            time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Clients(unittest.TestCase):
    def setUp(self):
        support.install_kernelspec()

    def terminal(self, *command):
        terminal = Terminal(*command)
        self.addCleanup(terminal.close)
        return terminal

    def test_console(self):
        console = self.terminal(sys.executable, "-m", "jupyter_console", "--kernel", "caller")
        console.wait_for("In [1]:")
        console.enter("6 * 7")
        console.wait_for("Out[1]: 42")
        console.wait_for("In [2]:")
        console.enter('std::cout << "printed" << std::endl;')
        console.wait_for("\nprinted")
        console.wait_for("In [3]:")
        console.enter("no_such_name")
        console.wait_for("Cell [3], line 1")
        console.wait_for("In [4]:")
        console.enter('caller::input("name? ")')
        console.wait_for("name? ")
        console.enter("Ada")
        console.wait_for('"Ada"')
        console.wait_for("In [5]:")

    def test_console_of_an_existing_kernel(self):
        kernel = support.Kernel()
        self.addCleanup(kernel.stop)
        client = kernel.client()
        client.run("int from_elsewhere = 41;")
        console = self.terminal(
            sys.executable, "-m", "jupyter_console", "--existing", kernel.manager.connection_file, "--simple-prompt"
        )
        console.wait_for("]:")
        console.enter("from_elsewhere + 1")
        console.wait_for("42")

    def test_jupyter_run(self):
        result = subprocess.run(
            [sys.executable, "-m", "jupyter_client.runapp", "--kernel", "caller"],
            input='std::cout << 6 * 7 << " is it" << std::endl;', capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        self.assertIn("42 is it", result.stdout, result.stderr)
