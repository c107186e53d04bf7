"""A kernel process started without jupyter_client, from a connection file of the test's own making."""

import json
import os
import pathlib
import subprocess
import tempfile
import time

from support import HOME, PROGRAM, TIMEOUT, Client, free_ports

PORTS = ("shell_port", "control_port", "stdin_port", "iopub_port", "hb_port")


def connection(**changes):
    """The content of a usable connection file, with changes; a change to None leaves the field out."""
    info = {
        "transport": "tcp",
        "ip": "127.0.0.1",
        "key": "a-key-of-this-test",
        "signature_scheme": "hmac-sha256",
        "kernel_name": "caller",
        **dict(zip(PORTS, free_ports(len(PORTS)))),
        **changes,
    }
    return {name: value for name, value in info.items() if value is not None}


def write_connection_file(content):
    """Writes a connection file (a dictionary, or any text) and returns its path."""
    directory = tempfile.mkdtemp(dir=HOME)
    path = pathlib.Path(directory) / "connection.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


class DirectKernel:
    def __init__(self, info=None, environment=None, mode=0o600, **options):
        self.info = info or connection()
        self.file = write_connection_file(self.info)
        self.file.chmod(mode)
        self.log_path = self.file.with_name("log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                [PROGRAM, "kernel", "start", "-f", str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                **options,
            )
        self.clients = []

    def client(self, **options):
        client = Client(self.info, **options)
        self.clients.append(client)
        return client

    def log_text(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_for_exit(self, timeout=TIMEOUT):
        """The exit code, or None if the process still runs."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self):
        for client in self.clients:
            client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT)


def start_and_fail(*arguments, timeout=TIMEOUT):
    """Runs `caller kernel start …` that is expected to end at once: (exit code, what it said, seconds)."""
    begin = time.monotonic()
    result = subprocess.run(
        [PROGRAM, "kernel", "start", *arguments], capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
    )
    return result.returncode, result.stdout + result.stderr, time.monotonic() - begin
