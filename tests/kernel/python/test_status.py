"""Protocol checklist 11 to 15: busy and idle, order, errors; and 10, buffers."""

from support import KernelTest, parent_id, plain


class Status(KernelTest):
    def states(self, msg_id):
        return [m["content"]["execution_state"] for m in self.client.of(msg_id, "iopub", "status")]

    def test_11_nobody_is_told_again_that_the_kernel_starts(self):
        """test_process.py has the subscriber who was there first."""
        late = self.kernel.client()
        self.run_ok("1 + 1")
        self.client.request("control", "interrupt_request")
        for client in (self.client, late):
            client.idle(self.client.execute("1").wait().id)
            states = [m["content"]["execution_state"] for m in client.messages if m["msg_type"] == "status"]
            self.assertNotIn("starting", states[1:])
            self.assertIn("busy", states)
        self.assertNotIn("starting", [m["content"].get("execution_state") for m in late.messages])

    def test_12_busy_first_idle_last_for_every_request(self):
        requests = [
            ("shell", "kernel_info_request", {}),
            ("shell", "execute_request", {"code": "1 + 1"}),
            ("shell", "execute_request", {"code": "no_such_name"}),
            ("shell", "execute_request", {"code": "1", "silent": True}),
            ("shell", "complete_request", {"code": "std::ve", "cursor_pos": 7}),
            ("shell", "inspect_request", {"code": "int", "cursor_pos": 3, "detail_level": 0}),
            ("shell", "is_complete_request", {"code": "1"}),
            ("shell", "history_request", {"hist_access_type": "tail", "n": 1, "raw": True, "output": False}),
            ("shell", "comm_info_request", {}),
            ("shell", "connect_request", {}),
            ("shell", "comm_msg", {"comm_id": "unknown", "data": {}}),
            ("control", "kernel_info_request", {}),
            ("control", "interrupt_request", {}),
            ("control", "usage_request", {}),
            ("control", "create_subshell_request", {}),
            ("control", "list_subshell_request", {}),
            ("control", "delete_subshell_request", {"subshell_id": "unknown"}),
            ("control", "debug_request", {"type": "request", "seq": 1, "command": "debugInfo"}),
        ]
        for channel, msg_type, content in requests:
            with self.subTest(channel=channel, msg_type=msg_type):
                msg_id = self.client.send(channel, msg_type, content)
                self.client.idle(msg_id)
                iopub = self.client.of(msg_id, "iopub")
                self.assertEqual(self.states(msg_id), ["busy", "idle"])
                self.assertEqual(iopub[0]["content"].get("execution_state"), "busy")
                self.assertEqual(iopub[-1]["content"].get("execution_state"), "idle")

    def test_12_every_request_is_answered_with_its_own_type(self):
        for channel, name in (
            ("shell", "kernel_info"), ("shell", "comm_info"), ("shell", "connect"), ("control", "kernel_info"),
            ("control", "interrupt"), ("control", "usage"), ("control", "list_subshell"),
        ):  # fmt: skip
            msg_id = self.client.send(channel, f"{name}_request")
            self.assertEqual(self.client.reply(msg_id)["msg_type"], f"{name}_reply")

    def test_13_reply_and_output_come_before_idle(self):
        """The kernel may send on two sockets at once, so it is the client's order of sending that is looked at: the date."""
        cell = self.run_ok('for (int i = 0; i < 50; ++i) std::cout << i << std::endl; caller::display(1); 7')
        order = cell.types()
        self.assertEqual(order[-1], "status")
        self.assertEqual(order.index("execute_input"), 1)
        self.assertEqual(cell.text().split(), [str(i) for i in range(50)])
        self.assertLessEqual(cell.reply_message["header"]["date"], cell.iopub[-1]["header"]["date"])
        self.client.never(lambda m: parent_id(m) == cell.id and m not in cell.iopub + [cell.reply_message], 0.3)

    def test_14_concurrent_requests_never_cross(self):
        self.run_ok("1;")
        spinning = self.client.execute("for (int i = 0; i < 20; ++i) { std::cout << 'a' << std::flush; co_await caller::sleep_for(20ms); }")
        spinning.wait_started()
        others = [self.client.send("shell", "complete_request", {"code": "std::str", "cursor_pos": 8}) for _ in range(5)]
        others += [self.client.send("control", "kernel_info_request") for _ in range(5)]
        for msg_id in others:
            self.client.idle(msg_id)
        spinning.wait()
        self.assertEqual(spinning.text(), "a" * 20)
        for msg_id in others:
            self.assertEqual({m["msg_type"] for m in self.client.of(msg_id, "iopub")}, {"status"})
            self.assertEqual(self.states(msg_id), ["busy", "idle"])
        self.assertEqual(self.states(spinning.id), ["busy", "idle"])

    def test_15_error_replies_are_complete(self):
        for code in ("no_such_name", 'throw std::runtime_error("x");', "%no_such_magic"):
            reply = self.run_error(code).reply
            self.assertEqual(reply["status"], "error")
            self.assertIsInstance(reply["ename"], str)
            self.assertTrue(reply["ename"])
            self.assertIsInstance(reply["evalue"], str)
            self.assertIsInstance(reply["traceback"], list)
            self.assertTrue(plain(reply["traceback"]))
            for line in reply["traceback"]:
                self.assertIsInstance(line, str)
