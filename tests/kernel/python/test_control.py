"""Protocol checklist 30, 37 to 41, 43, 51, 62: the control channel and the heartbeat while cells are busy."""

import time

from support import KernelTest, parent_id

SPIN = "volatile bool spin_on = true; std::cout << \"spinning\" << std::flush; while (spin_on) {}"


class Control(KernelTest):
    def spin(self):
        cell = self.client.execute(SPIN)
        cell.wait_text("spinning")
        return cell

    def assert_soon(self, channel, msg_type, content=None, within=1.0):
        begin = time.monotonic()
        reply = self.client.request(channel, msg_type, content)
        self.assertLess(time.monotonic() - begin, within, msg_type)
        return reply

    def test_30_control_answers_while_a_cell_spins(self):
        cell = self.spin()
        for msg_type in ("kernel_info_request", "usage_request", "list_subshell_request"):
            self.assertEqual(self.assert_soon("control", msg_type)["status"], "ok")
        self.assertEqual(len(cell.iopub), 3, "the cell still runs")
        self.client.interrupt()
        cell.wait(5)

    def test_30_control_answers_while_a_cell_compiles(self):
        cell = self.client.execute("#include <regex>\n#include <strstream>\n#include <locale>\nstd::regex_match(std::string(\"a\"), std::regex(\"a\"))")
        cell.wait_started()
        while not self.client.of(cell.id, "shell"):
            self.assert_soon("control", "kernel_info_request")
            self.client.pump(0.01)
        self.assertEqual(cell.wait().reply["status"], "ok")

    def test_37_shutdown_replies_then_exits(self):
        begin = time.monotonic()
        msg_id = self.client.send("control", "shutdown_request", {"restart": True})
        reply = self.client.reply(msg_id)
        self.assertEqual(reply["content"], {"status": "ok", "restart": True})
        self.assertEqual(self.kernel.wait_for_exit(5), 0)
        self.assertLess(time.monotonic() - begin, 5)

    def test_37_shutdown_in_time_while_a_cell_spins(self):
        self.spin()
        msg_id = self.client.send("control", "shutdown_request", {"restart": False})
        self.assertEqual(self.client.reply(msg_id, 2)["content"]["restart"], False)
        self.assertIsNotNone(self.kernel.wait_for_exit(5))

    def test_37_shutdown_in_time_while_a_cell_waits_for_input(self):
        self.client.execute('caller::input("?")', allow_stdin=True).wait_started()
        self.client.wait(lambda m: m["msg_type"] == "input_request")
        self.client.reply(self.client.send("control", "shutdown_request", {"restart": False}), 2)
        self.assertEqual(self.kernel.wait_for_exit(5), 0)

    def test_38_shutdown_on_shell(self):
        msg_id = self.client.send("shell", "shutdown_request", {"restart": False})
        self.assertEqual(self.client.reply(msg_id)["msg_type"], "shutdown_reply")
        self.assertEqual(self.kernel.wait_for_exit(5), 0)

    def test_39_shutdown_reply_on_iopub(self):
        other = self.kernel.client()
        msg_id = self.client.send("control", "shutdown_request", {"restart": False})
        seen = other.wait(lambda m: m["channel"] == "iopub" and m["msg_type"] == "shutdown_reply")
        self.assertEqual(parent_id(seen), msg_id)

    def test_40_restart_keeps_the_ports(self):
        before = dict(self.kernel.info)
        self.run_ok("int gone = 1;")
        self.kernel.manager.restart_kernel()
        self.assertEqual(self.kernel.info, before)
        self.client = self.kernel.client()
        self.assertEqual(self.run_ok("1 + 1").reply["execution_count"], 1)
        self.run_error("gone")

    def test_41_interrupt_replies_at_once_also_when_idle(self):
        self.assertEqual(self.assert_soon("control", "interrupt_request", within=0.5)["status"], "ok")
        self.assert_usable()
        cell = self.spin()
        self.assertEqual(self.assert_soon("control", "interrupt_request", within=0.5)["status"], "ok")
        self.assertEqual(cell.wait(5).reply["status"], "error")
        self.assert_usable()

    def test_41_an_idle_interrupt_does_not_hit_the_next_cell(self):
        for _ in range(5):
            self.client.interrupt()
            self.assert_usable()

    def test_43_interrupt_is_kernel_wide(self):
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        main = self.spin()
        other = self.client.execute('std::cout << "also" << std::flush; for (;;) { volatile int x = 0; (void)x; }', subshell=subshell)
        other.wait_text("also")
        self.client.interrupt()
        for cell in (main, other):
            self.assertEqual(cell.wait(5).reply["status"], "error")
        self.assert_usable()

    def test_51_usage_while_busy(self):
        cell = self.spin()
        usage = self.assert_soon("control", "usage_request")
        self.assertGreater(usage["kernel_cpu"], 0)
        self.assertGreater(usage["kernel_memory"], 1_000_000)
        self.assertEqual(usage["pid"], self.kernel.pid)
        self.assertTrue(usage["hostname"])
        self.assertGreater(usage["cpu_count"], 0)
        self.assertGreater(usage["host_virtual_memory"]["total"], 0)
        self.client.interrupt()
        cell.wait(5)

    def test_62_the_heartbeat_echoes_while_a_cell_spins(self):
        self.assertLess(self.client.beat(), 1)
        cell = self.spin()
        for _ in range(10):
            self.assertLess(self.client.beat(), 1)
        self.client.interrupt()
        cell.wait(5)

    def test_62_the_heartbeat_echoes_while_a_cell_compiles(self):
        cell = self.client.execute("#include <regex>\nstd::regex_match(std::string(\"a\"), std::regex(\"a\"))")
        cell.wait_started()
        while not self.client.of(cell.id, "shell"):
            self.assertLess(self.client.beat(), 1)
            self.client.pump(0.02)
        cell.wait()
