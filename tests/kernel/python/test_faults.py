"""A fault in a cell ends the cell with an error that names it; the session and its variables go on."""

import ctypes
import os
import re
import time

from direct import DirectKernel
from support import KernelTest, parent_id, plain

NULL = "*(volatile int*)nullptr = 1;"
# statement: ename
FAULTS = {
    NULL: "SegmentationFault",
    "volatile int* wild = (int*)0x123456789000; *wild = 2;": "SegmentationFault",
    "volatile int* odd = (int*)0x8123456789000000; *odd = 2;": "SegmentationFault",
    "((void (*)())nullptr)();": "SegmentationFault",
    "int* erased = nullptr; *erased = 3;": "SegmentationFault",
    "volatile int zero = 0; volatile int q = 5 / zero;": "ArithmeticFault",
    "volatile int most = std::numeric_limits<int>::min(), minus = -1; volatile int q = most / minus;": "ArithmeticFault",
    "__builtin_trap();": "IllegalInstruction",
    "__builtin_debugtrap();": "Trap",
    "std::abort();": "AbortCalled",
    "raise(SIGBUS);": "BusError",
    "check_one_is_two();": "AssertionFailed",
    "overflow(1);": "StackOverflow",
    "overflow_with_strings(1);": "StackOverflow",
    "must_not_throw();": "TerminateCalled",
    "std::exit(3);": "SystemExit",
    "quick_exit(3);": "SystemExit",
    "_exit(3);": "SystemExit",
}
PREPARE = """#include <cassert>
#include <csignal>
#include <unistd.h>
#pragma clang diagnostic ignored "-Wexceptions"
int survivor = 11;
std::vector<std::string> texts{"kept"};
void check_one_is_two() { int one = 1; assert(one == 2); }
int overflow(int n) { volatile char room[64]; room[0] = n; return overflow(n + 1) + room[0]; }
std::string overflow_with_strings(int n) { std::string s(100, 'x'); return s + overflow_with_strings(n + 1); }
void must_not_throw() noexcept { throw std::runtime_error("oops"); }
"""
# where a statement runs: the cell
PLACES = {
    "plain": "{}",
    "awaiting": "co_await caller::sleep_for(1ms); {{ {} }}",
    "before_an_await": "{{ {} }} co_await caller::sleep_for(1ms);",
    "in_a_coroutine": "caller::Coro<void> work() {{ co_await caller::sleep_for(1ms); {} }}\nco_await work();",
    "task": "// task\nco_await caller::sleep_for(1ms); {}",
    "thread": "// thread\n{}",
    "named_thread": "// thread name=Faulty\n{}",
    "call_soon": "co_await caller::Caller::current().call_soon([] {{ {} }});",
    "waited_for": "caller::Caller::current().call_soon([] {{ {} }}).wait();",
    "call_later": "co_await caller::Caller::current().call_later(1ms, [] {{ {} }});",
    "to_thread": "co_await caller::Caller::current().to_thread([] {{ {} }});",
    "coroutine_of_a_worker": "co_await caller::Caller::current().to_thread("
    "[]() -> caller::Coro<void> {{ co_await caller::sleep_for(1ms); {} }});",
    "raw_thread": "std::thread([] {{ {} }}).join();",
}


class FaultTest(KernelTest):
    def setUp(self):
        super().setUp()
        self.run_ok(PREPARE)

    def fault(self, code, ename, **options):
        cell = self.run_error(code, **options)
        self.assertEqual(cell.reply["ename"], ename, code)
        self.assertEqual(cell.error["ename"], ename)
        self.assertEqual(cell.error["evalue"], cell.reply["evalue"])
        return cell

    def assert_session_goes_on(self, **options):
        cell = self.run_ok('std::cout << "out " << texts[0] << std::flush; survivor', **options)
        self.assertEqual(cell.result, "11")
        self.assertEqual(cell.text(), "out kept")
        self.assertTrue(self.client.beat())


class Faults(FaultTest):
    def everywhere(self, place, **options):
        for statement, ename in FAULTS.items():
            self.fault(PLACES[place].format(statement), ename, **options)
        self.assert_session_goes_on(**options)

    def test_in_a_plain_cell(self):
        self.everywhere("plain")

    def test_in_an_awaiting_cell(self):
        self.everywhere("awaiting")
        self.everywhere("before_an_await")

    def test_in_a_coroutine_that_a_cell_awaits(self):
        self.everywhere("in_a_coroutine")

    def test_in_a_task_cell(self):
        self.everywhere("task")

    def test_in_a_thread_cell(self):
        self.everywhere("thread")
        self.everywhere("named_thread")

    def test_in_a_subshell(self):
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        self.everywhere("plain", subshell=subshell)
        self.everywhere("awaiting", subshell=subshell)

    def test_in_calls_on_the_shells_caller(self):
        self.everywhere("call_soon")
        self.everywhere("call_later")
        self.everywhere("waited_for")

    def test_in_workers_of_to_thread(self):
        self.everywhere("to_thread")
        self.everywhere("coroutine_of_a_worker")

    def test_in_threads_that_a_cell_started(self):
        self.everywhere("raw_thread")

    def test_ten_in_a_row_everywhere_with_interrupts_between(self):
        for round_ in range(10):
            for place, cell in PLACES.items():
                self.fault(cell.format(NULL), "SegmentationFault")
                if round_ % 3 == 0:
                    spinning = self.client.execute('std::cout << "ready" << std::flush; for (;;) {}')
                    spinning.wait_text("ready")
                    self.client.interrupt()
                    self.assertIn("nterrupt", spinning.wait(10).reply["ename"], place)
        self.assert_session_goes_on()

    def test_threads_and_memory_do_not_grow(self):
        pid = self.kernel.pid

        def threads():
            return len(os.listdir(f"/proc/{pid}/task"))

        def own():  # without pages of files, which the kernel gives back when nothing happens
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                _, resident, shared, *_ = map(int, file.read().split())
                return (resident - shared) * 4096

        def growth(run, statement):
            begin = own()
            for cell in PLACES.values():
                run(cell.format(statement))
            return (own() - begin) / len(PLACES)

        def rounds(count):
            """What a cell costs in each of so many rounds: of healthy ones, of faulty ones."""
            faulty = lambda code: self.fault(code, "SegmentationFault")  # noqa: E731
            return zip(*((growth(self.run_ok, "survivor = 11;"), growth(faulty, NULL)) for _ in range(count)))

        list(rounds(2))
        first = threads()
        healthy, after_faults = rounds(7)
        self.assertLessEqual(threads(), first + 1)
        # What any cell costs, and little for the frames that are left behind. What leaks does so in every round; what is
        # only made once, or is twice as large from now on (a table, an arena), shows in one: the largest of each is left out.
        typical = lambda costs: (sum(costs) - max(costs)) / (len(costs) - 1)  # noqa: E731
        self.assertLess(typical(after_faults), typical(healthy) + 100_000, (healthy, after_faults))

    def test_the_error_says_what_may_be_damaged(self):
        cell = self.fault(NULL, "SegmentationFault")
        self.assertIn("address 0x0 (null pointer)", cell.reply["evalue"])
        self.assertIn("Possibly damaged", plain(cell.reply["traceback"]))
        cell = self.fault("std::exit(42);", "SystemExit")
        self.assertIn("42", cell.reply["evalue"])
        cell = self.fault("check_one_is_two();", "AssertionFailed")
        self.assertIn("`one == 2'", cell.reply["evalue"])
        cell = self.fault("must_not_throw();", "TerminateCalled")
        self.assertIn("oops", cell.reply["evalue"])

    def test_the_error_names_the_lines_of_cells(self):
        self.run_ok("int divide(int a, int b) {\n  int volatile c = b;\n  return a / c;\n}\nstruct S { void crash(int* p) {\n *p = 1; } };")
        cell = self.fault("int q = 4;\n\ndivide(q, 0)", "ArithmeticFault")
        self.assertIn(f"Cell [2], line 3, in divide(int, int)", cell.reply["evalue"])
        trace = plain(cell.reply["traceback"]).splitlines()
        self.assertEqual([line.strip() for line in trace[1:3]], ["Cell [3], line 3", "Cell [2], line 3, in divide(int, int)"])
        cell = self.fault("int* none = nullptr;\nvoid use(S s) {\n  s.crash(none);\n}\nuse(S{});", "SegmentationFault")
        self.assertRegex(plain(cell.reply["traceback"]), r"Cell \[4\], line 5\n *Cell \[4\], line 3, in use.*\n *Cell \[2\], line 6, in .*crash")
        cell = self.fault("caller::Coro<int> away() {\n  co_await caller::sleep_for(1ms);\n  co_return divide(1, 0);\n}\nco_await away()", "ArithmeticFault")
        self.assertIn("Cell [2], line 3", cell.reply["evalue"])
        self.assertRegex(plain(cell.reply["traceback"]), r"Cell \[5\], line 3")

    def test_an_exception_names_the_lines_of_cells(self):
        self.run_ok("void fail(int n) {\n  if (n == 2) throw std::runtime_error(\"two\");\n}")
        cell = self.fault("for (int i = 0; i < 5; ++i) {\n  fail(i);\n}", "std::runtime_error")
        self.assertEqual(cell.reply["evalue"], "two")
        self.assertRegex(plain(cell.reply["traceback"]), r"Cell \[3\], line 2\n *Cell \[2\], line 2, in fail\(int\)\n")
        cell = self.fault("std::vector<int> v;\nint x =\n  v.at(3);", "std::out_of_range")
        self.assertIn("Cell [4], line 3", plain(cell.reply["traceback"]))
        cell = self.fault("co_await caller::sleep_for(1ms);\nfail(2);", "std::runtime_error")
        self.assertRegex(plain(cell.reply["traceback"]), r"Cell \[5\], line 2")
        cell = self.fault("co_await caller::Caller::current().to_thread([] {\n fail(2); });", "std::runtime_error")
        self.assertRegex(plain(cell.reply["traceback"]), r"Cell \[6\], line 2")
        cell = self.fault('std::throw_with_nested(std::runtime_error("alone"));', "std::runtime_error")
        self.assertEqual(cell.reply["evalue"], "alone")

    def test_a_heap_error_that_holds_no_lock_is_named(self):
        cell = self.fault("{ void* volatile twice = malloc(40); free(twice); free(twice); }", "HeapCorruption")
        self.assertIn("double free", cell.reply["evalue"])
        cell = self.fault("std::free((void*)0x1234560);", "SegmentationFault")
        self.assertIn("the heap", plain(cell.reply["traceback"]))
        self.assert_session_goes_on()

    def test_wild_data_given_to_a_stream(self):
        for _ in range(3):
            self.fault("std::cout.write((const char*)0x1000, 100);", "SegmentationFault")
            self.fault("fwrite((const char*)0x1000, 1, 100, stdout);", "SegmentationFault")
            self.fault("std::cout << *(std::string*)nullptr << std::endl;", "SegmentationFault")
        self.assert_session_goes_on()

    def test_a_stream_of_c_that_faults_is_not_kept_by_its_thread(self):
        for code in ("fwrite((const char*)0x1000, 1, 100, stdout);", "flockfile(stdout); flockfile(stderr); *(volatile int*)nullptr = 1;"):
            for place in ("thread", "to_thread", "raw_thread"):
                self.fault(PLACES[place].format(code), "SegmentationFault")
                self.assertEqual(self.run_ok('std::printf("out\\n"); std::fprintf(stderr, "err\\n");').text(), "out\n")
        self.assert_session_goes_on()

    def test_an_exception_that_leaves_a_thread_is_an_error_of_the_cell(self):
        cell = self.fault('std::thread([] { throw std::runtime_error("from the thread"); }).join();', "std::runtime_error")
        self.assertIn("from the thread", cell.reply["evalue"])
        self.assertIn("from the thread", plain(cell.text("stderr")))
        self.fault("std::thread([] { must_not_throw(); }).join();", "TerminateCalled")
        self.fault("std::thread never_joined([] {}); { std::thread t(std::move(never_joined)); }", "TerminateCalled")
        self.assert_session_goes_on()

    def test_a_thread_that_faults_later_is_told_of_in_the_cell_that_started_it(self):
        starter = self.run_ok("std::atomic<bool> go{false};\nstd::thread late([] { while (!go) std::this_thread::yield(); *(volatile int*)nullptr = 1; });")
        self.run_ok("go = true; late.join();")
        self.client.wait(
            lambda m: m["msg_type"] == "stream"
            and parent_id(m) == starter.id
            and "SegmentationFault" in m["content"]["text"]
        )
        self.assert_session_goes_on()

    def test_tasks_that_await_go_on(self):
        task = self.client.execute('// task\nfor (int i = 0; i < 5; ++i) { co_await caller::sleep_for(100ms); std::cout << i << std::flush; } 7')
        task.wait_started()
        for place in ("plain", "awaiting", "call_soon"):
            self.fault(PLACES[place].format(NULL), "SegmentationFault")
        self.assertEqual(task.wait().reply["status"], "ok")
        self.assertEqual(task.text(), "01234")

    def test_calls_queued_behind_a_fault_still_run(self):
        self.run_ok("std::vector<int> order; int lane = 1; auto me = caller::Caller::current();")
        self.run_ok("me.queue_call(lane, [] { order.push_back(1); *(volatile int*)nullptr = 1; });"
                    "me.queue_call(lane, [] { order.push_back(2); });"
                    "me.queue_call(lane, []() -> caller::Coro<void> { order.push_back(3); *(volatile int*)nullptr = 1; co_return; });"
                    "me.queue_call(lane, [] { order.push_back(4); });"
                    "me.queue_call(lane, []() -> caller::Coro<void> { order.push_back(5); co_return; });")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            shown = self.run_ok("order").result
            if "5" in shown:
                break
        self.assertEqual(re.findall(r"\d", shown), ["1", "2", "3", "4", "5"])

    def test_calls_beside_one_that_faults_end_well(self):
        self.fault(
            "auto faulty = caller::Caller::current().call_soon([] { *(volatile int*)nullptr = 1; });\n"
            "auto fine = caller::Caller::current().call_soon([] { return 4; });\n"
            "if (co_await fine != 4) std::cout << \"wrong\";\nco_await faulty;",
            "SegmentationFault",
        )
        self.assert_session_goes_on()

    def test_a_time_out_around_a_fault_does_no_harm_later(self):
        self.fault("co_await caller::with_timeout(200ms, []() -> caller::Coro<void> {"
                   " co_await caller::sleep_for(1ms); *(volatile int*)nullptr = 1; }());", "SegmentationFault")
        self.run_ok("co_await caller::sleep_for(400ms);")
        self.assert_session_goes_on()

    def test_a_fault_in_a_done_callback_leaves_the_others(self):
        self.run_ok("caller::Pending<int> p; p.add_done_callback([](caller::PendingBase) { *(volatile int*)nullptr = 1; });"
                    "p.add_done_callback([](caller::PendingBase) { survivor = 11; }); survivor = 0; p.set_result(1);")
        self.assert_session_goes_on()

    def test_a_child_process_dies_as_it_would_elsewhere(self):
        cell = self.run_ok("#include <sys/wait.h>\nint status = 0; { pid_t child = fork(); if (child == 0) *(volatile int*)nullptr = 1;"
                           " waitpid(child, &status, 0); }\nWTERMSIG(status)")
        self.assertEqual(cell.result, "11")
        cell = self.run_ok("{ pid_t child = fork(); if (child == 0) _exit(7); waitpid(child, &status, 0); }\nWEXITSTATUS(status)")
        self.assertEqual(cell.result, "7")
        self.assert_session_goes_on()

    def test_what_a_copy_of_the_process_prints_is_of_the_cell(self):
        self.run_ok("#include <sys/wait.h>\n#include <cstdio>\n#include <cstdlib>\nvoid await(int child) { int status = 0; waitpid(child, &status, 0); std::cout << WEXITSTATUS(status) << std::flush; }")
        printing = {
            'std::cout << "child\\n"; std::cout.flush(); _exit(0);': ("child\n", ""),
            'std::cout << "child" << std::endl; std::cerr << "error"; std::exit(0);': ("child\n", "error"),
            'std::printf("child %d\\n", 7); std::fprintf(stderr, "error"); std::exit(0);': ("child 7\n", "error"),
            'puts("child"); fflush(nullptr); std::_Exit(0);': ("child\n", ""),
            'std::string none; if (!(std::cin >> none) && getchar() == EOF) std::cout << "no input"; _exit(0);': ("no input", ""),
        }
        # Other threads print meanwhile, so that their locks are held in some of the copies.
        self.run_ok("std::atomic<bool> on{true}; std::vector<std::thread> others;\n"
                    'for (int i = 0; i < 2; ++i) others.emplace_back([] { while (on) { std::cerr << ""; std::fprintf(stderr, "%s", ""); std::this_thread::sleep_for(100us); } });')
        for _ in range(10):
            for code, (out, err) in printing.items():
                cell = self.run_ok('std::cout << "parent "; { int child = fork(); if (child == 0) { ' + code + " } await(child); }")
                self.assertEqual((cell.text(), cell.text("stderr")), ("parent " + out + "0", err), code)
        self.run_ok("on = false; for (auto& t : others) t.join();")
        self.assert_session_goes_on()

    def test_a_cell_that_awaits_any_child_meets_none_of_the_kernels(self):
        self.run_ok("#include <sys/wait.h>\nint met = 0; std::atomic<bool> on{true};")
        cell = self.client.execute("// thread\nwhile (on) { if (waitpid(-1, nullptr, WNOHANG) > 0) ++met; std::this_thread::yield(); } met")
        cell.wait_started()
        for _ in range(20):
            self.client.request("shell", "complete_request", {"code": "std::vec", "cursor_pos": 8})
            self.client.request("shell", "inspect_request", {"code": "met", "cursor_pos": 3, "detail_level": 0})
            self.client.request("shell", "is_complete_request", {"code": "int x = 1;"})
        self.run_ok("on = false;")
        self.assertEqual(cell.wait().result, "0")

    def test_shutdown_after_faults(self):
        for place, cell in PLACES.items():
            self.fault(cell.format(NULL), "SegmentationFault")
            self.assertTrue(place)
        self.client.request("control", "shutdown_request", {"restart": False})
        self.assertEqual(self.kernel.wait_for_exit(10), 0)


class Death(KernelTest):
    def test_a_fault_that_cannot_be_survived_is_told_of(self):
        kernel = DirectKernel()
        self.addCleanup(kernel.stop)
        client = kernel.client()
        self.assertEqual(client.run("1").reply["status"], "ok")
        # a freed block is written to, so malloc finds its lists broken, with its lock held
        client.execute(
            "{ void* volatile block = malloc(3000); void* volatile behind = malloc(3000); free(block);\n"
            "((void* volatile*)block)[0] = (void*)0x41; ((void* volatile*)block)[1] = (void*)0x42;\n"
            "void* volatile next = malloc(5000); }"
        )
        code = kernel.wait_for_exit(20)
        self.assertNotIn(code, (None, 0))
        self.assertRegex(kernel.log_text(), "the kernel dies: .*memory allocator")

    def test_a_block_that_is_none_is_told_of_and_ends_the_kernel_at_once(self):
        for mode in ("", "// thread\n"):
            kernel = DirectKernel()
            self.addCleanup(kernel.stop)
            client = kernel.client()
            # malloc finds out with the lock of the main thread's part of the heap held
            client.execute(mode + "static long block[700] = {0, 0x1001}; void* volatile none = &block[2]; free(none);")
            error = client.wait(lambda m: m["msg_type"] == "error" and m["channel"] == "iopub")
            self.assertEqual(error["content"]["ename"], "KernelDied")
            self.assertIn("double free or corruption", error["content"]["evalue"])
            self.assertEqual(kernel.wait_for_exit(), -6)
            self.assertIn("the kernel dies: HeapCorruption", kernel.log_text())

    def test_a_fault_outside_of_cells_is_told_of(self):
        kernel = DirectKernel()
        self.addCleanup(kernel.stop)
        client = kernel.client()
        self.assertEqual(client.run("1").reply["status"], "ok")
        os.kill(kernel.process.pid, 11)
        self.assertEqual(kernel.wait_for_exit(10), -11)
        self.assertIn("the kernel dies: SegmentationFault", kernel.log_text())
        error = client.wait(lambda m: m["msg_type"] == "error" and m["channel"] == "iopub")
        self.assertIn("another process", error["content"]["evalue"])

    def test_a_fault_sent_to_a_thread_that_holds_the_lock_of_the_heap_is_told_of(self):
        for _ in range(4):
            kernel = DirectKernel()
            self.addCleanup(kernel.stop)
            client = kernel.client()
            client.execute(
                "#include <unistd.h>\nstd::cout << gettid() << std::endl;"
                "for (;;) { void* volatile blocks[64]; for (auto& b : blocks) b = malloc(5000); for (auto& b : blocks) free(b); }"
            )
            out = client.wait(lambda m: m["msg_type"] == "stream")
            thread = int(out["content"]["text"])
            tgkill = 234
            self.assertEqual(ctypes.CDLL(None).syscall(tgkill, kernel.process.pid, thread, 11), 0)
            self.assertEqual(kernel.wait_for_exit(10), -11)
            error = client.wait(lambda m: m["msg_type"] == "error" and m["channel"] == "iopub")
            self.assertIn("another process", error["content"]["evalue"])
            kernel.stop()
