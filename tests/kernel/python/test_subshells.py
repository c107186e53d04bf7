"""Protocol checklist 45 to 50: subshells."""

import time

from support import KernelTest


class Subshells(KernelTest):
    def create(self):
        reply = self.client.request("control", "create_subshell_request")
        self.assertEqual(reply["status"], "ok")
        return reply["subshell_id"]

    def listed(self):
        return self.client.request("control", "list_subshell_request")["subshell_id"]

    def test_45_create_delete_list(self):
        self.assertEqual(self.listed(), [])
        first, second = self.create(), self.create()
        self.assertNotEqual(first, second)
        self.assertEqual(sorted(self.listed()), sorted([first, second]))
        self.assertEqual(self.client.request("control", "delete_subshell_request", {"subshell_id": first})["status"], "ok")
        self.assertEqual(self.listed(), [second])

    def test_46_a_cell_runs_on_a_subshell_with_the_same_session(self):
        subshell = self.create()
        self.run_ok("int shared_value = 3;")
        self.assertEqual(self.run_ok("shared_value + 1", subshell=subshell).result, "4")
        self.run_ok("shared_value = 10;", subshell=subshell)
        self.assertEqual(self.run_ok("shared_value").result, "10")
        here = self.run_ok("std::cout << std::this_thread::get_id();").text()
        there = self.run_ok("std::cout << std::this_thread::get_id();", subshell=subshell).text()
        self.assertNotEqual(here, there)

    def test_47_replies_carry_the_request_with_its_subshell(self):
        subshell = self.create()
        cell = self.run_ok("1 + 1", subshell=subshell)
        for message in [cell.reply_message, *cell.iopub]:
            self.assertEqual(message["parent_header"]["subshell_id"], subshell)

    def test_48_an_unknown_subshell_is_an_error(self):
        cell = self.client.run("std::cout << 1;", subshell="no-such-subshell")
        self.assertEqual(cell.reply["status"], "error")
        self.assertEqual(cell.types()[0], "status")
        self.assertEqual(cell.text(), "")
        reply = self.client.request("control", "delete_subshell_request", {"subshell_id": "no-such-subshell"})
        self.assertEqual(reply["status"], "error")
        subshell = self.create()
        self.client.request("control", "delete_subshell_request", {"subshell_id": subshell})
        self.assertEqual(self.client.run("1", subshell=subshell).reply["status"], "error")
        self.assert_usable()

    def test_49_in_order_within_concurrent_across(self):
        one, two = self.create(), self.create()
        begin = time.monotonic()
        cells = [
            self.client.execute("co_await caller::sleep_for(500ms); std::cout << 1;", subshell=subshell)
            for subshell in (None, one, two)
        ]
        later = [self.client.execute("std::cout << 2;", subshell=subshell) for subshell in (None, one, two)]
        for cell in cells + later:
            cell.wait()
        self.assertLess(time.monotonic() - begin, 4)
        finished = [cell.reply_message["arrived"] for cell in cells]
        for first, second in zip(cells, later):
            self.assertLess(first.reply_message["arrived"], second.reply_message["arrived"])
            self.assertEqual((first.text(), second.text()), ("1", "2"))
        self.assertLess(max(finished) - min(finished), 0.5, "the three ran side by side")

    def test_49_a_subshell_computes_while_the_main_shell_spins(self):
        subshell = self.create()
        self.run_ok("volatile bool subshell_stop = false;")
        spinning = self.client.execute('std::cout << "on" << std::flush; while (!subshell_stop) {}')
        spinning.wait_text("on")
        self.assertEqual(self.run_ok("6 * 7", subshell=subshell).result, "42")
        self.run_ok("subshell_stop = true;", subshell=subshell)
        self.assertEqual(spinning.wait().reply["status"], "ok")

    def test_49_own_count_and_history(self):
        subshell = self.create()
        self.run_ok("1;")
        self.run_ok("2;")
        self.assertEqual(self.run_ok("3;", subshell=subshell).reply["execution_count"], 1)
        self.assertEqual(self.run_ok("4;").reply["execution_count"], 3)

    def test_49_an_error_aborts_only_its_own_shell(self):
        subshell = self.create()
        failing = self.client.execute('co_await caller::sleep_for(300ms); throw std::runtime_error("x");', subshell=subshell)
        waiting = self.client.execute("1;", subshell=subshell)
        main = self.client.execute("2 + 2")
        self.assertEqual(main.wait().reply["status"], "ok")
        self.assertEqual(failing.wait().reply["status"], "error")
        self.assertEqual(waiting.wait().reply["status"], "error")

    def test_48_deleting_a_busy_subshell_ends_its_cell(self):
        subshell = self.create()
        cell = self.client.execute("co_await caller::sleep_for(60s);", subshell=subshell)
        cell.wait_started()
        self.assertEqual(self.client.request("control", "delete_subshell_request", {"subshell_id": subshell})["status"], "ok")
        cell.wait(5)
        self.assert_usable()

    def test_50_the_feature_is_advertised(self):
        self.assertIn("kernel subshells", self.client.request("shell", "kernel_info_request")["supported_features"])
