"""What the tests of the kernel process share: the process itself, and a client that sees every message.

The program under test is named by the environment variable CALLER_PROGRAM. Nothing outside a temporary directory is
written: Jupyter's directories are moved there before Jupyter is imported.
"""

import atexit
import hashlib
import hmac
import itertools
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

PROGRAM = os.environ["CALLER_PROGRAM"]
HOME = pathlib.Path(tempfile.mkdtemp(prefix="caller-test-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
for _name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR", "XDG_DATA_HOME", "XDG_STATE_HOME"):
    os.environ[_name] = str(HOME / _name.lower())
os.environ["HOME"] = str(HOME)

# pylint: disable=wrong-import-position
import zmq  # noqa: E402
from jupyter_client.manager import KernelManager  # noqa: E402
from jupyter_client.session import Session  # noqa: E402

DELIMITER = b"<IDS|MSG>"
TIMEOUT = 30  # seconds until a missing message is an error; nothing waits that long when all is well
CHANNELS = ("shell", "control", "stdin", "iopub")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def plain(text):
    """The text without colours; a list of lines is joined."""
    return _ANSI.sub("", text if isinstance(text, str) else "\n".join(text))


def install_kernelspec(*arguments):
    subprocess.run([PROGRAM, "kernel", "install", "--user", *arguments], check=True, capture_output=True, timeout=30)


def free_ports(count, _next=itertools.count()):
    """Ports nobody listens on, below those that the system gives to outgoing connections: one of these may be taken between
    the look and the kernel's start. Test processes that run at the same time look at different ones."""
    found = []
    while len(found) < count:
        port = 20000 + (os.getpid() * 16 + next(_next)) % 12000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


class Kernel:
    """A kernel process started the way Jupyter starts it. Call stop() in the end."""

    def __init__(self, **options):
        if not (HOME / "jupyter_data_dir/kernels/caller").exists():
            install_kernelspec()
        self.log = open(HOME / f"kernel-{time.monotonic_ns()}.log", "w+b")  # pylint: disable=consider-using-with
        if options.get("transport") != "ipc":
            names = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")
            # With its cache of ports the manager would choose others.
            options = {**dict(zip(names, free_ports(len(names)))), "cache_ports": False, **options}
        self.manager = KernelManager(kernel_name="caller", **options)
        self.manager.start_kernel(cwd=str(HOME), stdout=self.log, stderr=self.log)
        self.clients = []

    @property
    def info(self):
        return self.manager.get_connection_info()

    @property
    def pid(self):
        return self.manager.provisioner.process.pid

    def alive(self):
        return self.manager.is_alive()

    def wait_for_exit(self, timeout=TIMEOUT):
        """The exit code, or None if the process still runs."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            code = self.manager.provisioner.process.poll()
            if code is not None:
                return code
            time.sleep(0.02)
        return None

    def client(self, **options):
        try:
            client = Client(self.info, **options)
        except AssertionError as error:
            state = "runs" if self.alive() else "has ended"
            raise AssertionError(f"no welcome; the process {state} and said:\n{self.log_text()[-2000:]}") from error
        self.clients.append(client)
        return client

    def log_text(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text(encoding="utf-8", errors="replace")

    def stop(self):
        for client in self.clients:
            client.close()
        if self.alive():
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self.log.close()


class Client:
    """A frontend that keeps every message it gets, in order, and can wait for one.

    Messages are the dictionaries of jupyter_client's Session (which checks the signature) plus "channel", "idents",
    "frames" (from the signature on, as received) and "arrived".
    """

    def __init__(self, info, await_welcome=True, reconnect=None, subscribe=True):
        """reconnect: milliseconds until a socket that found nobody tries again."""
        self.info = info
        key = info["key"]
        self.session = Session(key=key if isinstance(key, bytes) else key.encode(), username="tester")
        self.messages = []
        self.context = zmq.Context()
        self.poller = zmq.Poller()
        self.sockets = {}
        for channel in CHANNELS:
            socket = self.context.socket(zmq.SUB if channel == "iopub" else zmq.DEALER)
            socket.linger = 0
            if reconnect:
                socket.reconnect_ivl = reconnect
            if channel != "iopub":
                socket.identity = self.session.bsession
            self.encrypt(socket)
            socket.connect(self.endpoint(channel))
            self.poller.register(socket, zmq.POLLIN)
            self.sockets[channel] = socket
        if subscribe:
            self.sockets["iopub"].subscribe(b"")
        if subscribe and await_welcome:
            self.wait(lambda m: m["msg_type"] == "iopub_welcome")

    def encrypt(self, socket):
        """With CURVE keys in the connection file: as jupyter_client 8.9 does, with the one pair for both ends."""
        if self.info.get("curve_publickey"):
            socket.curve_serverkey = socket.curve_publickey = self.info["curve_publickey"].encode()
            socket.curve_secretkey = self.info["curve_secretkey"].encode()

    def endpoint(self, channel):
        port = self.info[{"heartbeat": "hb"}.get(channel, channel) + "_port"]
        separator = ":" if self.info["transport"] == "tcp" else "-"
        return f"{self.info['transport']}://{self.info['ip']}{separator}{port}"

    def close(self):
        self.context.destroy(linger=0)

    # ---- sending

    def message(self, msg_type, content=None, subshell=None, **options):
        message = self.session.msg(msg_type, content or {}, **options)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        return message

    def send(self, channel, msg_type, content=None, buffers=None, **options):
        """Sends a message and returns its id."""
        message = self.message(msg_type, content, **options)
        self.session.send(self.sockets[channel], message, buffers=buffers)
        return message["header"]["msg_id"]

    def header(self, kind="kernel_info_request", **fields):
        """A header as this client writes it, but for some fields."""
        return {**json.loads(json.dumps(self.session.msg_header(kind), default=str)), **fields}

    def signed(self, *parts):
        """Frames as a client sends them, of four texts or byte strings, rightly signed."""
        parts = [part if isinstance(part, bytes) else json.dumps(part, default=str).encode() for part in parts]
        mac = hmac.new(self.session.key, digestmod=hashlib.sha256)
        for part in parts:
            mac.update(part)
        return [DELIMITER, mac.hexdigest().encode(), *parts]

    def send_frames(self, channel, frames):
        self.sockets[channel].send_multipart(frames)

    def execute(self, code, subshell=None, metadata=None, **content):
        """Sends an execute_request; only what is given (and the code) stands in it."""
        return Cell(self, self.send("shell", "execute_request", {"code": code, **content}, subshell=subshell, metadata=metadata))

    def run(self, code, timeout=TIMEOUT, **options):
        """Executes a cell and waits for its reply and its idle status."""
        return self.execute(code, **options).wait(timeout)

    def request(self, channel, msg_type, content=None, timeout=TIMEOUT, **options):
        """Sends a request and returns the content of its reply, after its idle status."""
        msg_id = self.send(channel, msg_type, content, **options)
        reply = self.reply(msg_id, timeout)
        self.idle(msg_id, timeout)
        return reply["content"]

    def interrupt(self):
        return self.request("control", "interrupt_request")

    # ---- receiving

    def pump(self, seconds):
        """Takes in what arrives until something did or the time is over."""
        for socket, _ in self.poller.poll(max(0, int(seconds * 1000))):
            channel = next(name for name, other in self.sockets.items() if other is socket)
            while True:
                try:
                    frames = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                idents, rest = self.session.feed_identities(frames)
                message = self.session.deserialize(rest)
                message["channel"] = channel
                message["idents"] = idents
                message["frames"] = [bytes(frame) for frame in rest]
                message["arrived"] = time.monotonic()
                self.messages.append(message)

    def wait(self, matches, timeout=TIMEOUT, start=0):
        """The first message (from index `start` on) for which `matches` is true."""
        deadline = time.monotonic() + timeout
        index = start
        while True:
            while index < len(self.messages):
                if matches(self.messages[index]):
                    return self.messages[index]
                index += 1
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError("the message did not come; there were:\n" + "\n".join(map(summary, self.messages[-30:])))
            self.pump(min(left, 0.5))

    def never(self, matches, seconds):
        """Waits and asserts that no such message comes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.pump(deadline - time.monotonic())
        found = [m for m in self.messages if matches(m)]
        assert not found, "unexpected: " + "\n".join(map(summary, found))

    def reply(self, msg_id, timeout=TIMEOUT):
        return self.wait(lambda m: m["channel"] in ("shell", "control") and parent_id(m) == msg_id, timeout)

    def idle(self, msg_id, timeout=TIMEOUT):
        return self.wait(lambda m: parent_id(m) == msg_id and m["content"].get("execution_state") == "idle", timeout)

    def of(self, msg_id, channel=None, msg_type=None):
        """The messages that belong to a request, in the order of arrival."""
        return [
            m
            for m in self.messages
            if parent_id(m) == msg_id and channel in (None, m["channel"]) and msg_type in (None, m["msg_type"])
        ]

    def beat(self, timeout=5):
        """Seconds a heartbeat took; an error when it is not echoed."""
        socket = self.context.socket(zmq.REQ)
        socket.linger = 0
        try:
            self.encrypt(socket)
            socket.connect(self.endpoint("heartbeat"))
            begin = time.monotonic()
            socket.send(b"ping")
            assert socket.poll(timeout * 1000), "no heartbeat"
            assert socket.recv() == b"ping"
            return time.monotonic() - begin
        finally:
            socket.close()


class Cell:
    """One execute_request and all that came of it."""

    def __init__(self, client, msg_id):
        self.client = client
        self.id = msg_id

    def wait(self, timeout=TIMEOUT):
        self.client.reply(self.id, timeout)
        self.client.idle(self.id, timeout)
        return self

    def wait_started(self, timeout=TIMEOUT):
        """Waits until the cell has been taken up (its execute_input was published)."""
        self.client.wait(lambda m: parent_id(m) == self.id and m["msg_type"] == "execute_input", timeout)
        return self

    def wait_text(self, text, timeout=TIMEOUT):
        """Waits until the cell has printed this."""
        self.client.wait(lambda m: parent_id(m) == self.id and m["msg_type"] == "stream" and text in self.text(), timeout)
        return self

    @property
    def reply_message(self):
        return self.client.reply(self.id)

    @property
    def reply(self):
        return self.reply_message["content"]

    @property
    def iopub(self):
        return self.client.of(self.id, "iopub")

    def types(self):
        return [m["msg_type"] for m in self.iopub]

    def contents(self, msg_type):
        return [m["content"] for m in self.client.of(self.id, "iopub", msg_type)]

    def text(self, name="stdout"):
        return "".join(c["text"] for c in self.contents("stream") if c["name"] == name)

    @property
    def result(self):
        """The text/plain of the execute_result, None when there is none."""
        results = self.contents("execute_result")
        assert len(results) < 2, results
        return results[0]["data"]["text/plain"] if results else None

    @property
    def error(self):
        """The error published on iopub, None when there is none."""
        errors = self.contents("error")
        assert len(errors) < 2, errors
        return errors[0] if errors else None


def parent_id(message):
    return (message.get("parent_header") or {}).get("msg_id")


def summary(message):
    return f"  {message['channel']} {message['msg_type']} of {parent_id(message)}: {str(message['content'])[:160]}"


class KernelTest(unittest.TestCase):
    """A test with a kernel of its own and one client."""

    maxDiff = None

    def setUp(self):
        self.kernel = Kernel()
        self.addCleanup(self._stop)
        self.client = self.kernel.client()

    def _stop(self):
        text = "" if self._outcome.success else self.kernel.log_text()
        self.kernel.stop()
        if text:
            print(f"---- the kernel wrote:\n{text[-4000:]}\n----")

    def run_ok(self, code, **options):
        """Executes a cell that must succeed."""
        cell = self.client.run(code, **options)
        self.assertEqual(cell.reply["status"], "ok", plain(cell.reply.get("traceback", [])))
        return cell

    def run_error(self, code, **options):
        """Executes a cell that must fail."""
        cell = self.client.run(code, **options)
        self.assertEqual(cell.reply["status"], "error", cell.text())
        return cell

    def assert_usable(self):
        """The kernel still computes."""
        self.assertEqual(self.run_ok("20 + 22").result, "42")
