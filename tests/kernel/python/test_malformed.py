"""Faulty input: every case is survived, and a rightly signed request is answered, however faulty it is.

Each case is a function of `Sender` that sends something; what it returns are the ids of requests that
must be answered by a reply and an idle status.
"""

import os
import random
import socket
import unittest

os.environ["CALLER_KERNEL_TEST_COMMS"] = "1"

from support import DELIMITER, Kernel, parent_id  # noqa: E402  pylint: disable=wrong-import-position

WRONG = {"a number": 7, "a fraction": 1.5, "null": None, "a list": [1, "x"], "an object": {"a": 1}, "text": "x", "true": True, "huge": 10**30}
REQUESTS = (
    "execute_request", "complete_request", "inspect_request", "is_complete_request", "history_request", "comm_info_request",
    "kernel_info_request", "connect_request", "interrupt_request", "usage_request", "create_subshell_request",
    "delete_subshell_request", "list_subshell_request",
)  # fmt: skip
FIELDS = {
    "execute_request": ("code", "silent", "store_history", "user_expressions", "allow_stdin", "stop_on_error"),
    "complete_request": ("code", "cursor_pos"),
    "inspect_request": ("code", "cursor_pos", "detail_level"),
    "is_complete_request": ("code",),
    "history_request": ("output", "raw", "hist_access_type", "session", "start", "stop", "n", "pattern", "unique"),
    "comm_info_request": ("target_name",),
    "delete_subshell_request": ("subshell_id",),
}
GOOD = {
    "execute_request": {"code": "1 + 1"},
    "complete_request": {"code": "int x", "cursor_pos": 2},
    "inspect_request": {"code": "int x", "cursor_pos": 2, "detail_level": 0},
    "is_complete_request": {"code": "1"},
    "history_request": {"hist_access_type": "tail", "n": 3},
}


class Sender:
    """One kernel, and ways to send it what no client should."""

    def __init__(self):
        self.kernel = Kernel()
        self.client = self.kernel.client()
        self.header, self.signed = self.client.header, self.client.signed

    def frames(self, frames, channel="shell"):
        self.client.send_frames(channel, frames)
        return []

    def request(self, kind, content, channel="shell", metadata=None, buffers=(), **fields):
        header = self.header(kind, **fields)
        self.client.send_frames(channel, [*self.signed(header, {}, metadata or {}, content), *buffers])
        return [header["msg_id"]] if isinstance(header["msg_id"], str) else []

    def noise(self, port, data):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            try:
                raw.sendall(data)
            except OSError:
                pass  # it may hang up at once
        return []


def cases():
    """(name, function of Sender) of every case."""
    # Frames
    for channel in ("shell", "control", "stdin"):
        for count in range(7):
            yield f"{count} frames on {channel}", lambda f, c=channel, n=count: f.frames(f.signed(f.header(), {}, {}, {})[:n] or [b""], c)
    yield "no delimiter", lambda f: f.frames(f.signed(f.header(), {}, {}, {})[1:])
    yield "two delimiters", lambda f: f.frames([DELIMITER, *f.signed(f.header(), {}, {}, {})])
    yield "a thousand identities", lambda f: f.frames([b"i"] * 1000 + f.signed(f.header(), {}, {}, {}))
    yield "ten thousand buffers", lambda f: f.request("kernel_info_request", {}, buffers=[b"b"] * 10000)
    yield "a buffer of 20 MB", lambda f: f.request("kernel_info_request", {}, buffers=[b"b" * 20_000_000])
    # Signatures
    for name, change in {
        "wrong": lambda s: b"0" * 64, "short": lambda s: s[:10], "empty": lambda s: b"", "upper case": bytes.upper,
        "long": lambda s: s * 1000, "not ASCII": lambda s: b"\xff" * 64,
    }.items():  # fmt: skip
        def signature(f, change=change):
            frames = f.signed(f.header("execute_request"), {}, {}, {"code": 'std::cout << "never";'})
            return f.frames([frames[0], change(frames[1]), *frames[2:]])

        yield f"signature: {name}", signature
    # Parts that are no objects
    broken = {"empty": b"", "cut": b'{"a": ', "not UTF-8": b'{"a": "\xc3\x28"}', "a list": b"[1]", "a number": b"3", "deep": b"[" * 100000,
              "closed and deep": b'{"a":' * 100000 + b"1" + b"}" * 100000, "NUL": b"\x00", "NaN": b'{"a": NaN}'}  # fmt: skip
    for name, text in broken.items():
        yield f"header: {name}", lambda f, t=text: f.frames(f.signed(t, {}, {}, {}))
        for position, part in enumerate(("parent header", "metadata", "content")):
            def part_of(f, t=text, p=position):
                header = f.header("execute_request")
                parts = [{}, {}, {"code": "1"}]
                parts[p] = t
                f.frames(f.signed(header, *parts))
                return [header["msg_id"]]

            yield f"{part}: {name}", part_of
    # Fields of the header
    for field in ("msg_id", "msg_type", "session", "username", "date", "version", "subshell_id"):
        for name, value in WRONG.items():
            def in_header(f, field=field, value=value):
                ids = f.request("kernel_info_request", {}, **{field: value})
                return [] if field in ("msg_id", "msg_type") else ids

            yield f"{field}: {name}", in_header
    yield "a msg_type of 1 MB", lambda f: f.request("x" * 1_000_000, {}) and []
    yield "a msg_id of 1 MB", lambda f: f.request("kernel_info_request", {}, msg_id="m" * 1_000_000)
    yield "an unknown subshell", lambda f: f.request("execute_request", {"code": "1"}, subshell_id="nowhere")
    # Fields of each request's content
    for msg_type, fields in FIELDS.items():
        for field in fields:
            for name, value in WRONG.items():
                yield f"{msg_type} {field}: {name}", lambda f, m=msg_type, k=field, v=value: f.request(m, {**GOOD.get(m, {}), k: v})
    for msg_type in REQUESTS:
        yield f"{msg_type} with nothing", lambda f, m=msg_type: f.request(m, {})
        yield f"{msg_type} with null", lambda f, m=msg_type: f.request(m, b"null")
        yield f"{msg_type} with much", lambda f, m=msg_type: f.request(m, {**GOOD.get(m, {}), "more": ["x" * 100] * 10000})
    # Cursors and texts
    for cursor in (-1, -(2**31), 10**6, 2**31, 2**63, 10**40):
        yield f"completion at {cursor}", lambda f, c=cursor: f.request("complete_request", {"code": "std::vec", "cursor_pos": c})
        yield f"inspection at {cursor}", lambda f, c=cursor: f.request("inspect_request", {"code": "std::vector", "cursor_pos": c})
    for name, code in {
        "5 MB of blanks": " " * 5_000_000, "a NUL": "1\0 + 1", "3 001 open brackets": "(" * 3001, "an emoji": "\N{GRINNING FACE}",
        "a lone surrogate": "\ud800", "a comment without end": "/*", "a string without end": 'R"(', "backslashes": "\\\n" * 1000,
        "a magic of 100 kB": "%" + "x" * 100_000, "percent": "%", "twice percent": "%%", "a line of 1 MB": "x" * 1_000_000,
    }.items():  # fmt: skip
        yield f"execute {name}", lambda f, c=code: f.request("execute_request", {"code": c})
        yield f"complete {name}", lambda f, c=code: f.request("complete_request", {"code": c, "cursor_pos": len(c) // 2})
        yield f"is_complete {name}", lambda f, c=code: f.request("is_complete_request", {"code": c})
    for tags in (7, "x", [7, None], [["timeout=1"]], ["timeout=", "timeout=x", "timeout=-1", "timeout=1e999"], {"a": 1}):
        yield f"tags {tags}", lambda f, t=tags: f.request("execute_request", {"code": "1"}, metadata={"tags": t})
    for expressions in ({"a": 7}, {"a": "no_such_name"}, {"a": ""}, {"a": "("}, [1]):
        yield f"user expressions {expressions}", lambda f, e=expressions: f.request("execute_request", {"code": "1", "user_expressions": e})
    # Comms are never answered, only survived
    for msg_type in ("comm_open", "comm_msg", "comm_close"):
        for name, value in WRONG.items():
            for field in ("comm_id", "target_name", "data"):
                def comm(f, m=msg_type, k=field, v=value):
                    return f.request(m, {"comm_id": "c", "target_name": "echo", "data": {}, k: v}) and []

                yield f"{msg_type} {field}: {name}", comm
        yield f"{msg_type} with an id of 1 MB", lambda f, m=msg_type: f.request(m, {"comm_id": "c" * 1_000_000, "target_name": "echo"}) and []
    # What belongs elsewhere
    for msg_type in ("input_reply", "execute_reply", "status", "shutdown_reply", "comm", "", "request", "_request"):
        for channel in ("shell", "control", "stdin"):
            yield f"{msg_type!r} on {channel}", lambda f, m=msg_type, c=channel: f.request(m, {"value": 7}, c) and []
    for msg_type in ("execute_request", "complete_request", "comm_open"):
        yield f"{msg_type} on control", lambda f, m=msg_type: f.request(m, {"code": "1"}, "control") and []
    # Bytes on the ports
    noises = {"HTTP": b"GET / HTTP/1.1\r\n\r\n", "zeros": b"\0" * 5000, "random": random.Random(1).randbytes(5000), "nothing": b"",
              "a greeting cut short": b"\xff" + b"\0" * 8, "a huge frame": b"\xff" + b"\0" * 8 + b"\x7f\x03\x00NULL" + b"\0" * 48 + b"\x02" + b"\xff" * 8}  # fmt: skip
    for port in ("shell_port", "control_port", "stdin_port", "iopub_port", "hb_port"):
        for name, data in noises.items():
            yield f"{name} on {port}", lambda f, p=port, d=data: f.noise(f.kernel.info[p], d)


class Malformed(unittest.TestCase):
    def check(self, chosen):
        """Every case is survived by one kernel, and answered where it must be; afterwards it still computes."""
        faults = Sender()
        self.addCleanup(faults.kernel.stop)
        client = faults.client
        for name, send in chosen:
            with self.subTest(case=name):
                for msg_id in send(faults):
                    reply = client.reply(msg_id)
                    self.assertIn(reply["content"].get("status"), ("ok", "error", "complete", "incomplete", "invalid"))
                    client.idle(msg_id)
                for channel in ("control", "shell"):
                    self.assertEqual(client.request(channel, "kernel_info_request")["status"], "ok")
                self.assertTrue(faults.kernel.alive())
                client.messages.clear()
        cell = client.run("20 + 22")
        self.assertEqual(cell.result, "42")
        self.assertFalse([m for m in client.messages if m["msg_type"] == "stream" and parent_id(m) != cell.id])

    def test_the_list_has_the_cases_that_were_promised(self):
        self.assertGreaterEqual(len(list(cases())), 94)
        self.assertEqual(len({name for name, _ in cases()}), len(list(cases())), "every case has a name of its own")

    def part(self, number, of):
        return [case for index, case in enumerate(cases()) if index % of == number]

    def test_first_part(self):
        self.check(self.part(0, 4))

    def test_second_part(self):
        self.check(self.part(1, 4))

    def test_third_part(self):
        self.check(self.part(2, 4))

    def test_fourth_part(self):
        self.check(self.part(3, 4))
