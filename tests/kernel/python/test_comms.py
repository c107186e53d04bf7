"""Protocol checklist 10 and 33 to 36: comms, with a target `echo` that the kernel has for tests."""

import os
import time
import uuid

os.environ["CALLER_KERNEL_TEST_COMMS"] = "1"

from support import KernelTest, parent_id  # noqa: E402  pylint: disable=wrong-import-position


class Comms(KernelTest):
    def open(self, data=None, target="echo", **options):
        comm_id = uuid.uuid4().hex
        msg_id = self.client.send("shell", "comm_open", {"comm_id": comm_id, "target_name": target, "data": data or {}}, **options)
        self.client.idle(msg_id)
        return comm_id, msg_id

    def echoed(self, msg_id, timeout=10):
        return self.client.wait(lambda m: m["msg_type"] == "comm_msg" and parent_id(m) == msg_id, timeout)

    def test_10_buffers_come_back_byte_for_byte(self):
        comm_id, _ = self.open()
        buffers = [bytes(range(256)), b"", b"\x00" * 1_000_000, b"<IDS|MSG>", "ä".encode()]
        msg_id = self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": {"n": len(buffers)}}, buffers=buffers)
        echo = self.echoed(msg_id)
        self.assertEqual([bytes(b) for b in echo["buffers"]], buffers)

    def test_33_open_message_close_with_metadata(self):
        comm_id, _ = self.open({"initial": [1, None, "ä"]})
        self.assertEqual(
            self.client.request("shell", "comm_info_request")["comms"], {comm_id: {"target_name": "echo"}}
        )
        self.assertEqual(self.client.request("shell", "comm_info_request", {"target_name": "other"})["comms"], {})
        data = {"nested": {"list": [1, 2.5, True, None, "text"]}}
        msg_id = self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": data}, metadata={"version": "1", "x": {"y": 1}})
        echo = self.echoed(msg_id)
        self.assertEqual(echo["content"]["data"], data)
        self.assertEqual(echo["content"]["comm_id"], comm_id)
        self.assertEqual(echo["metadata"], {"version": "1", "x": {"y": 1}})
        self.client.idle(self.client.send("shell", "comm_close", {"comm_id": comm_id, "data": {}}))
        self.assertEqual(self.client.request("shell", "comm_info_request")["comms"], {})

    def test_34_an_unknown_target_is_closed_at_once(self):
        comm_id, msg_id = self.open(target="no-such-target")
        closed = self.client.of(msg_id, "iopub", "comm_close")
        self.assertEqual([m["content"]["comm_id"] for m in closed], [comm_id])
        self.assertEqual(self.client.request("shell", "comm_info_request")["comms"], {})

    def test_35_an_unknown_comm_is_survived(self):
        for msg_type in ("comm_msg", "comm_close"):
            for content in ({"comm_id": "unknown", "data": {}}, {"comm_id": "unknown"}, {}, {"comm_id": None, "data": None}):
                msg_id = self.client.send("shell", msg_type, content)
                self.client.idle(msg_id)
                self.assertEqual({m["msg_type"] for m in self.client.of(msg_id)}, {"status"})
        self.assert_usable()

    def test_36_served_while_a_cell_awaits(self):
        comm_id, _ = self.open()
        cell = self.client.execute('std::cout << "on" << std::flush; co_await caller::sleep_for(2s);')
        cell.wait_text("on")
        begin = time.monotonic()
        echo = self.echoed(self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": {"a": 1}}))
        self.assertLess(echo["arrived"] - begin, 1)
        self.assertEqual(self.client.of(cell.id, "shell"), [])
        self.client.interrupt()
        cell.wait()

    def test_36_served_on_a_subshell_while_a_cell_spins(self):
        comm_id, _ = self.open()
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        cell = self.client.execute('std::cout << "on" << std::flush; for (;;) {}')
        cell.wait_text("on")
        for _ in range(20):
            begin = time.monotonic()
            echo = self.echoed(self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": {}}, subshell=subshell))
            self.assertLess(echo["arrived"] - begin, 0.5)
            self.assertEqual(echo["parent_header"]["subshell_id"], subshell)
        self.client.interrupt()
        cell.wait(5)

    def test_messages_of_a_comm_stay_in_order(self):
        comm_id, _ = self.open()
        ids = [self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": {"n": n}}) for n in range(300)]
        self.echoed(ids[-1])
        echoes = [m["content"]["data"]["n"] for m in self.client.messages if m["msg_type"] == "comm_msg"]
        self.assertEqual(echoes, list(range(300)))
