"""Protocol checklist 42: a cell can always be interrupted, within a second, and the next one is unaffected."""

import os
import time

from support import KernelTest, parent_id, plain

LIMIT = 1.0


class Interrupt(KernelTest):
    def interrupt(self, code, **options):
        """Interrupts the cell once it has printed `ready` and returns it; checks the time and the next cell."""
        cell = self.client.execute(code, **options)
        cell.wait_text("ready")
        time.sleep(0.05)
        begin = time.monotonic()
        self.client.interrupt()
        cell.wait(10)
        self.assertLess(cell.reply_message["arrived"] - begin, LIMIT)
        self.assertEqual(cell.reply["status"], "error")
        self.assertIn("nterrupt", cell.reply["ename"] + cell.reply["evalue"])
        self.assertEqual(cell.error["ename"], cell.reply["ename"])
        self.assertEqual(self.run_ok("21 * 2").result, "42")
        return cell

    READY = 'std::cout << "ready" << std::flush; '

    def test_42_as_soon_as_the_cell_is_known_to_run(self):
        for _ in range(60):
            cell = self.client.execute("for (;;) {}")
            self.client.wait(lambda m: parent_id(m) == cell.id and m["content"].get("execution_state") == "busy")
            self.client.interrupt()
            self.assertEqual(cell.wait(10).reply["ename"], "Interrupted")
        self.assertEqual(self.run_ok("21 * 2").result, "42")

    # Keeps the shell's loop from turning for a second, with no cell that runs.
    BLOCK = ("(void)caller::Caller::current().call_later(50ms, [] { std::cout << \"blocked\" << std::flush; for (const auto end = "
             "std::chrono::steady_clock::now() + 1s; std::chrono::steady_clock::now() < end;) {} });")

    def block(self):
        blocking = self.run_ok(self.BLOCK)
        blocking.wait_text("blocked")

    def test_42_a_cell_that_waits_for_its_turn(self):
        self.block()
        cell = self.client.execute("for (;;) {}")
        self.client.request("control", "usage_request")  # the cell is with the kernel
        self.client.interrupt()
        later = self.client.execute("21 * 2")  # sent after the answer: it is not meant
        self.assertEqual(cell.wait(10).reply["ename"], "Interrupted")
        self.assertEqual(later.wait().result, "42")
        self.client.interrupt()  # nothing runs
        self.assertEqual(self.run_ok("21 * 2").result, "42")

    def test_42_a_cell_that_waits_while_others_are_at_work(self):
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        for code, where in (("// task\nco_await caller::sleep_for(60s);", None), ("co_await caller::sleep_for(60s);", subshell)):
            other = self.client.execute(code, subshell=where).wait_started()
            self.block()
            cell = self.client.execute("for (;;) {}")
            self.client.request("control", "usage_request")
            self.client.interrupt()
            self.assertEqual(self.run_ok("1 + 2", subshell=subshell).result, "3")  # takes nothing of it
            self.assertEqual(other.wait(10).reply["ename"], "Interrupted")
            self.assertEqual(cell.wait(10).reply["ename"], "Interrupted")

    def test_42_of_the_cells_of_a_lane_one(self):
        first = self.client.execute(self.READY + "for (;;) {}", stop_on_error=False)
        second = self.client.execute("1 + 2", stop_on_error=False)
        first.wait_text("ready")
        self.client.interrupt()
        self.assertEqual(first.wait(10).reply["ename"], "Interrupted")
        self.assertEqual(second.wait(10).result, "3")

    def test_42_an_empty_loop(self):
        self.interrupt(self.READY + "for (;;) {}")
        self.interrupt(self.READY + "while (true);")

    def test_42_a_computing_loop(self):
        self.interrupt(self.READY + "unsigned long sum = 0; for (unsigned long i = 0;; ++i) sum += i * i;")
        self.interrupt(self.READY + "volatile double x = 1; while (x > 0) { x = x * 1.0000001; if (x > 1e9) x = 1; }")

    def test_42_a_loop_in_a_function_of_an_earlier_cell(self):
        self.run_ok("int collatz(int n) { int steps = 0; while (n != 0) { n = n % 2 ? 3 * n + 1 : n / 2; if (n == 1) n = 27; ++steps; } return steps; }")
        self.interrupt(self.READY + "collatz(27)")

    def test_42_a_loop_inside_a_library_template(self):
        self.run_ok("#include <algorithm>\n#include <numeric>\nstd::vector<int> many(1000);")
        self.interrupt(
            self.READY + "for (int round = 0; ; ) { std::sort(many.begin(), many.end(), [](int a, int b) { return a < b; }); round += many[0]; }"
        )
        self.interrupt(self.READY + "std::ranges::find_if(std::views::iota(0ull), [](auto x) { volatile auto y = x; return y == ~0ull; });")

    def test_42_recursion(self):
        self.interrupt("int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }\n" + self.READY + "fib(60)")

    def test_42_sleep_for(self):
        self.interrupt(self.READY + "std::this_thread::sleep_for(60s);")

    def test_42_a_blocked_read(self):
        self.run_ok("#include <unistd.h>\nint pipe_ends[2]; pipe(pipe_ends);")
        self.interrupt(self.READY + "char c; read(pipe_ends[0], &c, 1);")

    def test_42_a_wait_on_a_condition_variable(self):
        self.run_ok("#include <condition_variable>\n#include <mutex>\nstd::mutex m; std::condition_variable cv; bool go = false;")
        self.interrupt(self.READY + "{ std::unique_lock lock(m); cv.wait(lock, [] { return go; }); }")
        self.interrupt(self.READY + "{ std::unique_lock lock(m); while (!go) cv.wait(lock); }")
        self.interrupt(self.READY + "{ std::unique_lock lock(m); cv.wait_for(lock, 60s, [] { return go; }); }")
        # A wait without a loop around it may end by chance at any time, and so it does; what follows is not run.
        self.interrupt(self.READY + "{ std::unique_lock lock(m); cv.wait_for(lock, 60s); } for (;;) {}")
        self.assertEqual(self.run_ok("bool was_free = m.try_lock(); m.unlock(); was_free").result, "true")

    def test_42_a_wait_for_a_future_a_flag_or_a_semaphore(self):
        self.run_ok("#include <future>\n#include <semaphore>\n#include <latch>\nstd::promise<int> promise; auto future = promise.get_future().share();"
                    "std::atomic<int> flag{0}; std::counting_semaphore<> permits{0};")
        self.interrupt(self.READY + "future.get();")
        self.interrupt(self.READY + "future.wait_for(60s); for (;;) {}")
        self.interrupt(self.READY + "while (flag == 0) flag.wait(0);")
        self.interrupt(self.READY + "permits.acquire();")
        self.interrupt(self.READY + "std::latch(1).wait();")
        self.run_ok("promise.set_value(7); flag = 1; permits.release();")
        self.assertEqual(self.run_ok("future.get()").result, "7")

    def test_42_a_wait_of_a_thread_that_the_cell_waits_for(self):
        self.interrupt("// thread\n#include <condition_variable>\n#include <mutex>\n" + self.READY +
                       "std::mutex own; std::condition_variable never; std::unique_lock lock(own); never.wait(lock, [] { return false; });")

    def test_42_a_destructor_that_does_not_end(self):
        self.run_ok("struct Endless { ~Endless() { for (volatile bool on = true; on;) {} } };\nstruct Blocked { ~Blocked() { std::this_thread::sleep_for(60s); } };")
        cell = self.interrupt("{ Endless e; " + self.READY + "}")
        self.assertIn("must not throw", cell.reply["evalue"])
        self.interrupt("{ Blocked b; " + self.READY + "}")

    def test_42_a_destructor_that_takes_a_while_is_waited_for(self):
        self.run_ok("struct Slow { ~Slow() { std::this_thread::sleep_for(200ms); std::cout << \"flushed\" << std::flush; } };")
        cell = self.interrupt("{ Slow s; " + self.READY + "for (;;) {} }")
        self.assertIn("flushed", cell.text())

    def test_42_co_await(self):
        self.interrupt(self.READY + "co_await caller::sleep_for(60s);")
        self.interrupt(self.READY + "co_await caller::Pending<int>();")
        self.interrupt(self.READY + "co_await caller::Caller::current().call_later(60s, [] {});")

    def test_42_a_wait_for_input(self):
        self.interrupt(self.READY + 'caller::input("?")', allow_stdin=True)
        self.interrupt(self.READY + "std::string l; std::getline(std::cin, l);", allow_stdin=True)

    def test_42_a_cell_on_a_subshell(self):
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        self.interrupt(self.READY + "for (;;) {}", subshell=subshell)
        self.assertEqual(self.run_ok("1 + 2", subshell=subshell).result, "3")

    def test_42_a_subshell_that_ends_in_the_same_moment(self):
        # Their threads, more than libc keeps the stacks of, are gone before what the interrupt has put off is due.
        for _ in range(10):
            shells = [self.client.request("control", "create_subshell_request")["subshell_id"] for _ in range(16)]
            for shell in shells:
                self.run_ok("1 + 2", subshell=shell)
            for shell in shells:
                self.client.send("control", "delete_subshell_request", {"subshell_id": shell})
                self.client.send("control", "interrupt_request", {})
        self.client.request("control", "list_subshell_request")  # all of them have been looked at
        time.sleep(0.1)
        self.assertEqual(self.run_ok("1 + 2").result, "3")

    def test_42_a_cell_on_a_thread(self):
        self.interrupt("// thread\n" + self.READY + "for (;;) {}")
        self.interrupt("// task\n" + self.READY + "co_await caller::sleep_for(60s);")

    def test_42_a_cell_that_prints(self):
        for code in ('for (long i = 0;; ++i) std::cout << "a" << i << "\\n";', 'for (long i = 0;; ++i) std::printf("a%ld\\n", i);'):
            for _ in range(3):
                cell = self.client.execute("#include <cstdio>\n" + code)
                cell.wait_text("a100\n")
                self.client.interrupt()
                self.assertEqual(cell.wait(10).reply["ename"], "Interrupted", code)
                self.assertEqual(self.run_ok('std::cout << "alive" << std::flush; std::cout.good()').text(), "alive", code)

    def test_42_destructors_run_and_variables_survive(self):
        self.run_ok('struct Guard { ~Guard() { std::cout << "destroyed" << std::flush; } };\nint survivor = 11;')
        cell = self.interrupt("{ Guard guard;\n" + self.READY + "for (;;) {} }")
        self.assertIn("destroyed", cell.text())
        cell = self.interrupt("{ Guard guard;\n" + self.READY + "co_await caller::sleep_for(60s); }")
        self.assertIn("destroyed", cell.text())
        self.assertEqual(self.run_ok("survivor").result, "11")

    def test_42_a_cell_that_catches_every_exception_of_the_library(self):
        self.interrupt(self.READY + "for (;;) { try { for (;;) {} } catch (const std::exception&) {} }")

    def test_42_a_cell_that_catches_everything(self):
        for body in ("for (volatile int i = 0;; ++i) {}", "std::this_thread::sleep_for(60s);", "for (int i = 0; i < 1000; ++i) {}"):
            for begin in ("", "co_await caller::sleep_for(1ms); "):
                for handler in ("", "std::this_thread::sleep_for(1ms);"):
                    self.interrupt(begin + self.READY + "for (;;) { try { " + body + " } catch (...) { " + handler + " } }")
        self.interrupt("// thread\n" + self.READY + "int n = 0; while (true) try { for (;;) {} } catch (...) { ++n; }")
        self.interrupt("int retry(int n) { try { for (;;) {} } catch (...) {} return n < 1'000'000'000 ? retry(n + 1) : n; }\n" + self.READY + "retry(0)")

    def test_42_what_catches_an_interrupt_finishes_in_its_handler(self):
        self.run_ok("struct Slow { ~Slow() { for (int i = 0; i < 3; ++i) std::cout << 'd' << std::flush; } };")
        cell = self.client.execute("#include <caller/kernel/interrupted.hpp>\nstd::string done; try { Slow s; " + self.READY + "for (;;) {} }\n"
                                   "catch (const caller::kernel::Interrupted&) { for (int i = 0; i < 100; ++i) { done += 'x'; std::this_thread::sleep_for(1ms); } }")
        cell.wait_text("ready")
        self.client.interrupt()
        cell.wait(10)
        self.assertTrue(cell.text().endswith("ddd"), cell.text())
        self.assertEqual(self.run_ok("done.size()").result, "100")
        cell = self.interrupt("{ int tries = 0; try { try { " + self.READY + "for (;;) {} } catch (...) { for (int i = 0; i < 10; ++i) ++tries; throw; } }\n"
                              "catch (...) { std::cout << tries << \" tries\" << std::flush; throw; } }")
        self.assertIn("10 tries", cell.text())

    def test_42_queued_cells_are_aborted_and_later_ones_run(self):
        cell = self.client.execute(self.READY + "for (;;) {}")
        cell.wait_text("ready")
        queued = self.client.execute("1")
        self.client.interrupt()
        self.assertEqual(cell.wait(5).reply["status"], "error")
        self.assertEqual(queued.wait(5).reply["status"], "error")
        self.assert_usable()

    def test_42_what_was_sent_before_is_meant_whichever_socket_is_served_first(self):
        self.run_ok("struct Slow { ~Slow() { std::this_thread::sleep_for(500ms); } };")
        cell = self.client.execute("{ Slow s; " + self.READY + "for (;;) {} }")
        cell.wait_text("ready")
        earlier, interrupt, later = (self.client.message(kind, {"code": "1"}) for kind in ("execute_request", "interrupt_request", "execute_request"))
        self.client.session.send(self.client.sockets["shell"], later)
        self.client.request("control", "usage_request")
        self.client.session.send(self.client.sockets["control"], interrupt)
        self.client.reply(interrupt["header"]["msg_id"])
        self.client.session.send(self.client.sockets["shell"], earlier)
        statuses = [self.client.reply(m["header"]["msg_id"])["content"]["status"] for m in (earlier, later)]
        self.assertEqual(cell.wait(5).reply["ename"], "Interrupted")
        self.assertEqual(statuses, ["error", "ok"])

    def ten_times(self, code, prepare="", first_line="", **options):
        """Ten times in a row: the cell ends in time, its destructors run, variables are what they were, later cells run."""
        self.run_ok('struct Guard { std::vector<int> held{1, 2, 3}; ~Guard() { std::cout << "destroyed" << std::flush; } };\n'
                    "int survivor = 0; std::vector<int> many(1000);\n" + prepare)
        for number in range(1, 11):
            cell = self.interrupt(first_line + f"survivor = {number};\n{{ Guard guard;\n{self.READY}\n{code}\n}}\nsurvivor = -1;", **options)
            self.assertEqual(cell.reply["ename"], "Interrupted")
            self.assertEqual(cell.text(), "readydestroyed")
            self.assertEqual(self.run_ok("survivor + many[0]").result, str(number))

    def test_42_ten_times_an_empty_loop(self):
        self.ten_times("for (;;) {}")

    def test_42_ten_times_inside_a_library_template(self):
        self.ten_times("for (;;) std::sort(many.begin(), many.end(), [](int a, int b) { return a < b; });")

    def test_42_ten_times_a_sleep(self):
        self.ten_times("std::this_thread::sleep_for(60s);")

    def test_42_ten_times_a_blocked_read(self):
        self.ten_times("char c; read(pipe_ends[0], &c, 1);", "#include <unistd.h>\nint pipe_ends[2]; pipe(pipe_ends);")

    def test_42_ten_times_a_co_await(self):
        self.ten_times("co_await caller::sleep_for(60s);")

    def test_42_ten_times_a_wait_for_input(self):
        self.ten_times('caller::input("?");', allow_stdin=True)

    def test_42_ten_times_the_input_of_c(self):
        self.ten_times('int n; std::scanf("%d", &n); for (;;) {}', "#include <cstdio>", allow_stdin=True)

    def test_42_ten_times_on_a_subshell(self):
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        self.ten_times("for (;;) {}", subshell=subshell)
        self.assertEqual(self.run_ok("1 + 2", subshell=subshell).result, "3")

    def test_42_ten_times_on_a_thread(self):
        self.ten_times("for (;;) {}", first_line="// thread\n")

    # ---- what a cell runs on other threads

    GONE = "std::atomic<int> gone{0}; struct Guard { ~Guard() { ++gone; } }; auto me = caller::Caller::current(); auto other = me.get({.name = \"other\"});"
    ENDLESS = ("for (;;) {}", "std::this_thread::sleep_for(60s);", "for (;;) try { std::this_thread::sleep_for(60s); } catch (...) {}")
    WAYS = ("me.to_thread([] {{ {} }})", "other.call_soon([] {{ {} }})", "me.to_thread([]() -> caller::Coro<void> {{ co_await caller::sleep_for(1ms); {} }})",
            "me.to_thread([] {{ me.get({{.name = \"third\"}}).call_soon([] {{ {} }}).wait(); }})")

    def gone(self):
        return int(self.run_ok("gone.load()").result)

    def wait_gone(self, wanted, what):
        deadline = time.monotonic() + 10
        while self.gone() < wanted:
            self.assertLess(time.monotonic(), deadline, what)
        self.assertEqual(self.gone(), wanted, what)

    def test_42_what_other_threads_do_for_a_cell_that_awaits_it(self):
        self.run_ok(self.GONE)
        n = 0
        for round_ in range(10):
            for way in self.WAYS[:-1] if round_ else self.WAYS:
                for code in self.ENDLESS[: 2 if round_ else 3]:
                    guarded = "catch" not in code  # that may end without destructors
                    self.interrupt("co_await " + way.format("Guard g; " * guarded + self.READY + code) + ";")
                    n += guarded
                    self.wait_gone(n, way + code)
        self.assertEqual(self.run_ok("co_await me.to_thread([] { return 7; }) + co_await other.call_soon([] { return 8; })").result, "15")

    def test_42_what_other_threads_do_when_no_cell_awaits_it(self):
        self.run_ok(self.GONE)
        n = 0
        for _ in range(10):
            for way in self.WAYS[:-1]:
                for code in self.ENDLESS[:2]:
                    self.run_ok("(void)" + way.format("Guard g; " + self.READY + code) + ";").wait_text("ready")
                    self.client.interrupt()
                    n += 1
                    self.wait_gone(n, way + code)
        self.assertEqual(self.run_ok("co_await me.to_thread([] { return 7; }) + co_await other.call_soon([] { return 8; })").result, "15")

    def test_42_the_next_cell_on_a_thread_is_not_meant(self):
        self.run_ok(self.GONE)
        for _ in range(5):
            cell = self.client.execute("co_await other.call_soon([] { " + self.READY + "for (;;) {} });", stop_on_error=False)
            after = self.client.execute("co_await other.call_soon([] { int n = 0; for (volatile int i = 0; i < 1'000'000; ++i) ++n; return n; })")
            cell.wait_text("ready")
            self.client.interrupt()
            self.assertEqual(cell.wait(10).reply["ename"], "Interrupted")
            self.assertEqual(after.wait().result, "1000000")

    def test_42_a_time_out_leaves_the_cells_beside_it_alone(self):
        self.run_ok(self.GONE + "std::atomic<bool> over; bool busy() { " + self.READY + "long n = 0; while (!over) ++n; return n > 0; }\n"
                    "caller::Coro<bool> awaits() { co_await caller::sleep_for(1ms); co_return busy(); }\n"
                    "bool sleeps() { " + self.READY + "while (!over) std::this_thread::sleep_for(100ms); return true; }")
        beside = ("busy()", "co_await awaits()", "co_await me.to_thread([] { return busy(); })", "sleeps()")
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        for code in beside:
            self.run_ok("over = false;")
            timed = self.client.execute("// task\n" + self.READY + "co_await caller::sleep_for(60s);", metadata={"tags": ["timeout=5"]})
            timed.wait_text("ready")
            healthy = self.client.execute(code)
            healthy.wait_text("ready")
            self.assertFalse(self.client.of(timed.id, "shell"), "it is over before the other one computes")
            # Beyond the time-out, and longer than what computes is left alone.
            self.run_ok("co_await caller::sleep_for(5500ms); over = true;", subshell=subshell)
            self.assertEqual(healthy.wait().reply["status"], "ok", code + str(healthy.reply))
            self.assertEqual(healthy.result, "true", code)
            self.assertEqual(timed.wait(10).reply["ename"], "TimedOut", code)

    def test_42_a_time_out_reaches_what_its_cell_does(self):
        # All is compiled before: the time is the cell's.
        self.run_ok(self.GONE + "void spins() { Guard g; " + self.READY + "for (;;) {} }\nvoid sleeps() { Guard g; " + self.READY + "std::this_thread::sleep_for(60s); }\n"
                    "caller::Coro<void> awaits() { co_await caller::sleep_for(1ms); spins(); }")
        for n, code in enumerate(("spins();", "co_await awaits();", "co_await me.to_thread([] { spins(); });", "co_await other.call_soon([] { sleeps(); });")):
            cell = self.client.execute(code, metadata={"tags": ["timeout=5"]})
            cell.wait_text("ready")
            self.assertEqual(cell.wait(20).reply["ename"], "TimedOut", code)
            self.wait_gone(n + 1, code)

    def test_42_a_time_out_reaches_a_cell_that_runs_while_another_one_waits(self):
        self.run_ok("std::atomic<bool> spins{false}; caller::Coro<void> spin() { co_await caller::sleep_for(1ms); spins = true; for (;;) {} }")
        waiting = self.client.execute("while (!spins) caller::Caller::current().call_later(1ms, [] {}).wait();\nstd::cout << 5;")  # the other one's turn runs within
        waiting.wait_started()
        spinning = self.client.execute("// task\nco_await spin();", metadata={"tags": ["timeout=2"]})
        self.assertEqual(spinning.wait(20).reply["ename"], "TimedOut")
        self.assertEqual(waiting.wait(10).text(), "5", waiting.reply)

    # ---- programs

    def test_42_programs_that_libc_waits_for(self):
        self.run_ok("#include <csignal>\n#include <cstdlib>\n#include <cstdio>\n#include <sys/wait.h>\n#include <unistd.h>\nchar text[100];")
        pid_of = "echo pid $$; exec sleep 60"
        for code in (f'std::system("{pid_of}");', f'FILE* f = popen("echo pid $$ >&2; exec sleep 60", "r"); fgets(text, 100, f); pclose(f);',
                     'FILE* f = popen("echo pid $$ >&2; exec sleep 60", "w"); pclose(f);',
                     f'co_await caller::Caller::current().to_thread([] {{ return std::system("{pid_of}"); }});',
                     'std::system("trap \'\' INT TERM; echo pid $$; while true; do sleep 0.1; done");',
                 # the shell ends, what it has started does not
                 """std::system(R"(sh -c 'trap "" INT TERM; echo pid $$; while true; do sleep 0.1; done' & wait)");""",
                 # ends without destructors, and without what stands in the frames of system()
                 f'struct Runs {{ ~Runs() {{ std::system("{pid_of}"); }} }} runs;',
                 f'[]() noexcept {{ FILE* f = popen("echo pid $$ >&2; exec sleep 60", "w"); pclose(f); }}();',
                 f'[]() noexcept {{ FILE* f = popen("echo pid $$ >&2; exec sleep 60", "r"); fgets(text, 100, f); pclose(f); }}();'):
            cell = self.client.execute("{ " + code + " }")
            self.client.wait(lambda m, c=cell: m["msg_type"] == "stream" and parent_id(m) == c.id and "\n" in m["content"]["text"])
            pid = int((cell.text() + cell.text("stderr")).split()[1])
            begin = time.monotonic()
            self.client.interrupt()
            self.assertEqual(cell.wait(10).reply["ename"], "Interrupted", code)
            self.assertLess(cell.reply_message["arrived"] - begin, LIMIT, code)
            deadline = time.monotonic() + 5
            while self.runs(pid):
                self.assertLess(time.monotonic(), deadline, code)
        self.run_ok('#include <sys/resource.h>\nstruct Guard { ~Guard() { std::cout << "destroyed" << std::flush; } };')
        for code in ("wait(nullptr);", "waitid(P_ALL, 0, nullptr, WEXITED);", "wait3(nullptr, 0, nullptr);", "wait4(-1, nullptr, 0, nullptr);"):
            self.run_ok("int sleeper = fork(); if (sleeper == 0) execlp(\"sleep\", \"sleep\", \"60\", nullptr);")
            self.assertEqual(self.interrupt("{ Guard guard; " + self.READY + code + " }").text(), "readydestroyed", code)
            self.run_ok("kill(sleeper, SIGKILL); waitpid(sleeper, nullptr, 0);")
        self.assertEqual(self.run_ok('std::system("exit 3") >> 8').result, "3")
        self.assertEqual(self.run_ok('FILE* f = popen("echo hello; exit 4", "r"); fgets(text, 100, f); (pclose(f) >> 8) + text[0]').result, str(4 + ord("h")))
        self.assertEqual(self.run_ok('FILE* f = popen("cat", "w"); fputs("through\\n", f); pclose(f)').text(), "through\n")
        # A stream that nobody closes by pclose leaves its program's number behind, and often its address.
        self.assertEqual(self.run_ok('fclose(popen("exit 3", "r")); pclose(popen("exit 4", "r")) >> 8').result, "4")

    @staticmethod
    def runs(pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    def test_42_programs_that_destructors_and_handlers_run(self):
        self.run_ok("#include <cstdlib>\n#include <cstdio>\nstruct Sweeps { ~Sweeps() { std::system(\"sleep 0.1; echo swept\"); } };\n"
                    "struct Closes { FILE* f = popen(\"cat; echo closed\", \"w\"); ~Closes() { pclose(f); } };")
        self.assertIn("swept", self.interrupt("{ Sweeps s; " + self.READY + "for (;;) {} }").text())
        self.assertIn("closed", self.interrupt("{ Closes c; " + self.READY + "for (;;) {} }").text())
        self.assertIn("caught", self.interrupt("try { " + self.READY + "for (;;) {} } catch (...) { std::system(\"sleep 0.1; echo caught\"); throw; }").text())

    def test_42_again_and_again(self):
        for _ in range(10):
            self.interrupt(self.READY + "for (;;) {}")

    def test_42_the_error_is_short(self):
        cell = self.interrupt(self.READY + "for (;;) {}")
        self.assertLess(len(plain(cell.reply["traceback"]).splitlines()), 15)


class LongCompiles(KernelTest):
    """Compiling is interrupted like running."""

    TEMPLATES = (
        "template <int N, int M> struct Fib { static constexpr unsigned long value = Fib<N - 1, M>::value + Fib<N - 2, M + 1>::value; };\n"
        "template <int M> struct Fib<0, M> { static constexpr unsigned long value = M; };\n"
        "template <int M> struct Fib<1, M> { static constexpr unsigned long value = M; };\n"
        "template <int... I> unsigned long all(std::integer_sequence<int, I...>) { return (Fib<700, I * 1000>::value + ...); }\n"
    )
    ALL = "all(std::make_integer_sequence<int, 200>())"

    def interrupt_compile(self, code):
        cell = self.client.execute(code)
        self.client.wait(lambda m, c=cell: m["msg_type"] == "execute_input" and parent_id(m) == c.id)
        time.sleep(0.5)
        self.assertFalse(any(m["channel"] == "shell" for m in self.client.of(cell.id)), "it is over: it is not long")
        begin = time.monotonic()
        self.client.interrupt()
        cell.wait(10)
        self.assertLess(cell.reply_message["arrived"] - begin, LIMIT)
        self.assertEqual(cell.reply["ename"], "Interrupted")
        begin = time.monotonic()
        self.assertEqual(self.run_ok("kept").result, "5")
        self.assertLess(time.monotonic() - begin, 2)

    def test_42_a_long_compile_ends_within_a_second_ten_times(self):
        self.run_ok("int kept = 5;")
        for _ in range(10):
            self.interrupt_compile(self.TEMPLATES + self.ALL)
        self.assertEqual(self.run_ok("template <int> struct Fib { int value = 3; }; Fib<1>{}.value").result, "3")

    def test_42_the_long_compile_of_a_task_ends_too(self):
        self.run_ok("int kept = 5;")
        for _ in range(3):
            self.interrupt_compile("%%task\n" + self.TEMPLATES + self.ALL)

    def test_42_the_long_compile_of_a_tubes_nodes_ends_too(self):
        self.run_ok("int kept = 5;")
        # What a default argument needs is compiled where it is used: with the node.
        self.run_ok(self.TEMPLATES + f"unsigned long slow(unsigned long n = {self.ALL}) {{ return n; }}")
        for _ in range(3):
            self.interrupt_compile("%%tube\nnoob_id: long-compile\nnodes:\n  a: {type: slow}\n")

    def test_completion_does_not_wait_for_a_compiler_that_has_much_to_learn(self):
        begin = time.monotonic()
        self.run_ok(self.TEMPLATES + self.ALL.replace("200>", "1>"), timeout=100)
        learning = time.monotonic() - begin  # about as long as it took
        for kind, content in (("complete_request", {"code": "std::vec", "cursor_pos": 8}), ("inspect_request", {"code": "std::vector", "cursor_pos": 8, "detail_level": 0})):
            begin = time.monotonic()
            requests = [self.client.send("shell", kind, content) for _ in range(5)]  # as from somebody who types on
            cell = self.run_ok("1 + 2")
            self.assertEqual(cell.result, "3")
            self.assertLess(time.monotonic() - begin, max(3, learning / 2 + 1.5))
            for request in requests:
                self.assertEqual(self.client.reply(request)["content"]["status"], "ok")
