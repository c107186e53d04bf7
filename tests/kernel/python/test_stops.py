"""What was told to stop ends, also when nothing could be asked at that moment, and whatever it does about it."""

import time

from support import KernelTest

READY = 'std::cout << "ready" << std::flush; '


class Stops(KernelTest):
    # What a cell begins with is compiled before: the time of a time-out is the cell's.
    GONE = ("std::atomic<int> gone{0}; struct Guard { ~Guard() { ++gone; } }; auto me = caller::Caller::current();\n"
            "std::atomic<bool> computes{false}, over{false};\n"
            "void sees_it() { while (!computes) std::this_thread::sleep_for(1ms); }\n"
            "caller::Coro<void> follows() { Guard g; co_await me.to_thread([] { sees_it(); }); for (;;) {} }\n")

    def wait_gone(self, wanted, what):
        deadline = time.monotonic() + 30
        while (gone := int(self.run_ok("gone.load()").result)) < wanted:
            self.assertLess(time.monotonic(), deadline, what)
        self.assertEqual(gone, wanted, what)

    def test_a_time_out_ends_a_cell_whose_turn_comes_when_another_one_has_computed(self):
        self.run_ok(self.GONE)
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        timed = self.client.execute("co_await follows();", metadata={"tags": ["timeout=3"]}).wait_started()
        # Goes on beyond the time-out, which finds it and not the cell that is next.
        beside = self.client.execute("// task\ncomputes = true; while (!over) {}\n42")
        self.run_ok("co_await caller::sleep_for(3500ms); over = true;", subshell=subshell)
        self.assertEqual(timed.wait().reply["ename"], "TimedOut")
        self.assertEqual(beside.wait().result, "42", beside.reply)
        self.assert_usable()

    def test_a_time_out_ends_plain_code_that_has_waited_while_another_cell_computed(self):
        self.run_ok(self.GONE + "caller::Pending<int> comes; void waits() { comes.wait(); for (;;) {} }")
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        timed = self.client.execute("waits();", metadata={"tags": ["timeout=3"]}).wait_started()
        # It runs within the wait, whose end it has brought.
        beside = self.client.execute("// task\ncomes.set_result(1); while (!over) {}\n42")
        self.run_ok("co_await caller::sleep_for(3500ms); over = true;", subshell=subshell)
        self.assertEqual(timed.wait().reply["ename"], "TimedOut")
        self.assertEqual(beside.wait().result, "42", beside.reply)
        self.assert_usable()

    def test_an_interrupt_ends_all_cells_of_a_thread(self):
        self.run_ok(self.GONE + "caller::Coro<void> spins() { co_await caller::sleep_for(1ms); computes = true; " + READY + "for (;;) {} }")
        for n, code in enumerate(("computes = true; " + READY + "for (;;) {}", "co_await spins();"), 1):
            self.run_ok("computes = false;")
            follows = self.client.execute("co_await follows();", stop_on_error=False).wait_started()
            first = self.client.execute("// task\n" + code, stop_on_error=False).wait_text("ready")
            time.sleep(0.3)  # until the one that follows waits for nothing but its turn
            self.client.interrupt()
            self.assertEqual(first.wait().reply["ename"], "Interrupted", code)
            self.assertEqual(follows.wait().reply["ename"], "Interrupted", code)
            self.wait_gone(n, code)

    def test_completing_a_pending_with_a_callback_is_not_a_turn_of_the_loop(self):
        self.run_ok("void completes() { caller::Pending<int> p; p.add_done_callback([](caller::PendingBase) {}); p.set_result(1); }\n"
                    "struct Slow { ~Slow() { " + READY + "std::this_thread::sleep_for(250ms); completes(); } };\n"
                    "caller::Coro<void> again_and_again() { co_await caller::sleep_for(1ms); " + READY + "for (;;) completes(); }\n"
                    "caller::Coro<void> in_a_destructor() { co_await caller::sleep_for(1ms); { Slow slow; } for (;;) {} }")
        for code in ("co_await again_and_again();", "co_await in_a_destructor();"):
            cell = self.client.execute(code).wait_text("ready")
            self.client.interrupt()
            self.assertEqual(cell.wait().reply["ename"], "Interrupted", code)
            self.assert_usable()

    def test_what_goes_on_in_destructors_and_handlers_is_ended_some_time_after_a_time_out(self):
        self.run_ok("#include <cstdlib>\nstd::atomic<int> never{0};\n"
                    "struct Blocks { ~Blocks() { never.wait(0); } }; struct Runs { ~Runs() { std::system(\"sleep 60\"); } };\n"
                    "struct Computes { ~Computes() { for (volatile bool on = true; on;) {} } };\n"
                    "caller::Coro<void> awaits() { co_await caller::sleep_for(1ms); Blocks b; for (;;) {} }")
        for code in ("{ Blocks b; for (;;) {} }", "{ Runs r; for (;;) {} }", "{ Computes c; for (;;) {} }",
                     "try { for (;;) {} } catch (...) { never.wait(0); }",
                     "for (;;) try { try { for (;;) {} } catch (...) { never.wait(0); } } catch (...) {}",
                     "co_await awaits();"):
            cell = self.client.execute(code, metadata={"tags": ["timeout=2"]})
            reply = cell.wait().reply
            self.assertEqual((reply["ename"], reply["evalue"]), ("TimedOut", "the cell was stopped after 2 s"), code)
            self.assertNotIn("Interrupted", "".join(reply["traceback"]))
            self.assert_usable()

    def test_a_destructor_has_some_time_after_a_time_out(self):
        self.run_ok("struct Slow { ~Slow() { std::this_thread::sleep_for(1s); std::cout << \"flushed\" << std::flush; } };\n"
                    "void slow() { Slow s; " + READY + "for (;;) {} }")
        cell = self.client.execute("slow();", metadata={"tags": ["timeout=5"]}).wait_text("ready")
        self.assertEqual(cell.wait().reply["ename"], "TimedOut")
        self.assertIn("flushed", cell.text())

    def test_a_time_out_reaches_a_wait_in_a_thread_that_takes_no_signals(self):
        self.run_ok("#include <condition_variable>\n#include <mutex>\n#include <csignal>\n" + self.GONE +
                    "std::mutex m; std::condition_variable cv;\n"
                    "void blocked() { Guard g; sigset_t all; sigfillset(&all); pthread_sigmask(SIG_BLOCK, &all, nullptr);\n"
                    "  " + READY + "std::unique_lock lock(m); cv.wait(lock, [] { return false; }); }")
        cell = self.client.execute("co_await me.to_thread([] { blocked(); });", metadata={"tags": ["timeout=5"]}).wait_text("ready")
        self.assertEqual(cell.wait().reply["ename"], "TimedOut")
        self.wait_gone(1, "the worker")
