"""Protocol checklist 1 to 10: frames, signatures, headers, bad input."""

import hashlib
import hmac
import json
import unittest

from direct import DirectKernel, connection
from support import DELIMITER, KernelTest


class Wire(KernelTest):
    def assert_dropped(self, *frames_lists):
        """The kernel answers none of these and goes on."""
        for channel in ("shell", "control"):
            for frames in frames_lists:
                self.client.send_frames(channel, frames)
            info = self.client.request(channel, "kernel_info_request")
            self.assertEqual(info["status"], "ok")
        replies = [m for m in self.client.messages if m["channel"] in ("shell", "control")]
        self.assertEqual(len(replies), 2, "only the two good requests are answered")
        self.assertTrue(self.kernel.alive())
        self.assert_usable()

    def test_01_frames(self):
        cell = self.run_ok("1 + 1")
        for message in [cell.reply_message, *cell.iopub]:
            self.assertGreaterEqual(len(message["frames"]), 5)
            for frame in message["frames"][1:5]:
                self.assertIsInstance(json.loads(frame), dict)
        self.assertEqual(cell.reply_message["idents"], [], "the router has taken its identity off")

    def test_02_signature(self):
        cell = self.run_ok("1 + 1")
        for message in [cell.reply_message, *cell.iopub]:
            mac = hmac.new(self.client.session.key, digestmod=hashlib.sha256)
            for frame in message["frames"][1:5]:
                mac.update(frame)
            self.assertEqual(message["frames"][0].decode(), mac.hexdigest())
        # Buffers are not signed: the same request is good with any.
        frames = self.client.signed(self.client.header(), {}, {}, {})
        self.client.send_frames("shell", [*frames, b"\x00\xff", b""])
        self.client.wait(lambda m: m["msg_type"] == "kernel_info_reply")

    def test_04_bad_signatures_are_dropped(self):
        good = self.client.signed(self.client.header(), {}, {}, {})
        upper = [good[0], good[1].upper(), *good[2:]]
        wrong = [good[0], b"0" * 64, *good[2:]]
        short = [good[0], good[1][:10], *good[2:]]
        empty = [good[0], b"", *good[2:]]
        tampered = [*good[:-1], b'{"a": 1}']
        long = [good[0], good[1] * 1000, *good[2:]]
        if good[1].upper() == good[1]:
            self.skipTest("a signature without letters, one in 10^13")
        self.assert_dropped(wrong, short, empty, tampered, long, upper)

    def test_04_truncated_frames_are_dropped(self):
        good = self.client.signed(self.client.header(), {}, {}, {})
        self.assert_dropped(
            *[good[:length] for length in range(1, 6)], [b""], [b"", b""], [b"x"], [b"a", b"b", b"c"], good[1:], [*good[:2], b""]
        )

    def test_04_invalid_json_is_dropped(self):
        self.assert_dropped(
            self.client.signed(b"{", {}, {}, {}),
            self.client.signed(b"", b"", b"", b""),
            self.client.signed([1], {}, {}, {}),
            self.client.signed(b"null", {}, {}, {}),
            self.client.signed(b"3", {}, {}, {}),
            self.client.signed(b'{"msg_id": "\xc3\x28"}', {}, {}, {}),
            self.client.signed(b"[" * 100000, {}, {}, {}),
        )

    def test_04_a_signed_request_with_a_broken_content_is_answered_with_an_error(self):
        """The signature and the header are good, so the client is known and waits for its answer."""
        broken = (b'{"a": ', b"\xff\xfe", b'{"a": "\xc3\x28"}', b"[1, 2]", b"3", b'"x"', b"[" * 100000, b'{"a":' * 5000 + b"1" + b"}" * 5000)
        for channel in ("shell", "control"):
            for position in range(3):
                for text in broken:
                    header = self.client.header("execute_request")
                    parts = [{}, {}, {}]
                    parts[position] = text
                    self.client.send_frames(channel, self.client.signed(header, *parts))
                    self.assertEqual(self.client.reply(header["msg_id"])["content"]["status"], "error")
                    self.client.idle(header["msg_id"])
        self.assert_usable()

    def test_04_headers_of_the_wrong_shape_are_survived(self):
        """Rightly signed nonsense may be answered or dropped, but the kernel goes on."""
        for header in ({}, {"msg_type": 3}, {"msg_type": None, "msg_id": None}, {**self.client.header(), "msg_id": 7}, {**self.client.header(), "subshell_id": 7}):
            for channel in ("shell", "control", "stdin"):
                self.client.send_frames(channel, self.client.signed(header, {}, {}, {}))
        for content in (b"null", b"3", b'"x"'):
            self.client.send_frames("shell", self.client.signed(self.client.header("execute_request"), {}, {}, content))
        self.client.send_frames("shell", self.client.signed(self.client.header("execute_request"), b"null", b"null", {"code": "1"}))
        self.assertTrue(self.kernel.alive())
        self.assert_usable()

    def test_04_requests_of_the_wrong_type_get_an_error_or_defaults(self):
        for content in ({"code": 3}, {"code": None}, {}, {"code": ["a"]}, {"code": "1", "silent": "x"}):
            cell = self.client.run(content.pop("code", None), **content)
            self.assertIn(cell.reply["status"], ("ok", "error"))
        for msg_type in ("complete_request", "inspect_request", "is_complete_request", "history_request", "comm_open", "comm_msg", "comm_info_request"):
            msg_id = self.client.send("shell", msg_type, {"code": 1, "cursor_pos": "x", "comm_id": 7, "hist_access_type": 1})
            self.client.idle(msg_id)
        self.assert_usable()

    def test_05_a_replayed_message_is_dropped(self):
        frames = self.client.signed(self.client.header(), {}, {}, {})
        self.client.send_frames("shell", frames)
        self.client.wait(lambda m: m["msg_type"] == "kernel_info_reply")
        self.client.send_frames("shell", frames)
        self.client.send_frames("control", frames)
        self.run_ok("1 + 1")
        self.assertEqual(len([m for m in self.client.messages if m["msg_type"] == "kernel_info_reply"]), 1)

    def test_06_header(self):
        cell = self.run_ok("1 + 1")
        headers = [json.loads(m["frames"][1]) for m in [cell.reply_message, *cell.iopub]]
        self.assertEqual(len({h["msg_id"] for h in headers}), len(headers), "msg_id is unique")
        self.assertEqual(len({h["session"] for h in headers}), 1, "one session per process")
        self.assertNotEqual(headers[0]["session"], self.client.session.session)
        for header in headers:
            self.assertTrue(header["username"])
            self.assertRegex(header["date"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)$")
            self.assertEqual(header["version"], "5.5")

    def test_07_reply_parent_is_the_exact_request_header(self):
        header = self.client.header("kernel_info_request", extra={"a": [1, "ä"]}, date="2024-01-02T03:04:05.000006Z")
        self.client.send_frames("shell", self.client.signed(header, {}, {}, {}))
        self.client.idle(header["msg_id"])
        for message in self.client.of(header["msg_id"]):
            self.assertEqual(json.loads(message["frames"][2]), header)

    def test_07_identities_are_echoed(self):
        """A DEALER sees no identity; several in front (as from a proxy) come back in order."""
        header = self.client.header()
        self.client.send_frames("shell", [b"proxy\x01", b"inner", *self.client.signed(header, {}, {}, {})])
        reply = self.client.reply(header["msg_id"])
        self.assertEqual(reply["idents"], [b"proxy\x01", b"inner"])

    def test_08_unknown_fields_are_ignored_and_nulls_take_defaults(self):
        cell = self.client.run("2 + 3", silent=None, store_history=None, user_expressions=None, allow_stdin=None, stop_on_error=None, news={"x": 1})
        self.assertEqual(cell.reply["status"], "ok")
        self.assertEqual(cell.result, "5")
        self.assertEqual(cell.reply["execution_count"], 1)
        header = self.client.header("execute_request", subshell_id=None, username=None)
        self.client.send_frames("shell", self.client.signed(header, b"{}", b"{}", {"code": "3 + 3"}))
        self.assertEqual(self.client.reply(header["msg_id"])["content"]["status"], "ok")

    def test_09_an_unknown_type_gets_busy_and_idle_only(self):
        for channel in ("shell", "control"):
            msg_id = self.client.send(channel, "no_such_request", {"x": 1})
            self.client.idle(msg_id)
            self.assertEqual([m["msg_type"] for m in self.client.of(msg_id)], ["status", "status"])
        self.assert_usable()

    def test_a_huge_message_is_taken(self):
        cell = self.run_ok("// " + "x" * 5_000_000 + "\n1 + 1")
        self.assertEqual(cell.result, "2")

    def test_a_flood_of_garbage_leaves_the_kernel_usable(self):
        for i in range(5000):
            self.client.send_frames("shell", [bytes([i % 256]) * (i % 7)] * (i % 9 + 1))
        self.assert_usable()


class Unsigned(unittest.TestCase):
    def test_03_an_empty_key_means_no_signing_and_no_check(self):
        kernel = DirectKernel(connection(key=""))
        self.addCleanup(kernel.stop)
        client = kernel.client()
        cell = client.run("1 + 1")
        self.assertEqual(cell.result, "2")
        for message in [cell.reply_message, *cell.iopub]:
            self.assertEqual(message["frames"][0], b"")
        header = json.loads(json.dumps(client.session.msg_header("kernel_info_request"), default=str))
        client.send_frames("shell", [DELIMITER, b"not a signature", json.dumps(header).encode(), b"{}", b"{}", b"{}"])
        self.assertEqual(client.reply(header["msg_id"])["content"]["status"], "ok")
