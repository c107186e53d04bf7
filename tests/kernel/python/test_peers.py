"""What kills or confuses xeus-cpp, and what users of C++ kernels complain about most: a test a line, none of it here."""

import os
import random
import socket
import time
import uuid

os.environ["CALLER_KERNEL_TEST_COMMS"] = "1"

from magic_support import added, is_optimised  # noqa: E402  pylint: disable=wrong-import-position
from support import KernelTest, parent_id, plain  # noqa: E402  pylint: disable=wrong-import-position


class Killers(KernelTest):
    """Measured with xeus-cpp 0.10: each of these ended it, or left it wrong."""

    def assert_unharmed(self, *frames):
        for channel in ("shell", "control"):
            self.client.send_frames(channel, list(frames))
            self.assertEqual(self.client.request(channel, "kernel_info_request")["status"], "ok")
        self.assertTrue(self.kernel.alive())
        self.assert_usable()

    def test_a_lambda_with_a_capture_default_at_top_level(self):
        self.run_ok("int base = 40;")
        self.assertEqual(self.run_ok("auto by_value = [=](int x) { return base + x; };\nby_value(2)").result, "42")
        self.assertEqual(self.run_ok("auto by_reference = [&] { return ++base; };\nby_reference()").result, "41")

    def test_a_redefined_class(self):
        self.run_ok("struct Point { int x; };\nPoint old{1};")
        self.run_ok("struct Point { double x, y; double sum() const { return x + y; } };")
        self.assertEqual(self.run_ok("Point{1.5, 2}.sum()").result, "3.5")
        self.assertEqual(self.run_ok("old.x").result, "1")

    def test_a_header_that_is_no_object(self):
        self.assert_unharmed(*self.client.signed([1, 2], {}, {}, {}))

    def test_a_numeric_msg_type(self):
        self.assert_unharmed(*self.client.signed({**self.client.session.msg_header("x"), "msg_type": 7}, {}, {}, {}))

    def test_invalid_utf8(self):
        header = self.client.session.msg_header("execute_request")
        self.assert_unharmed(*self.client.signed(header, {}, {}, b'{"code": "\xc3\x28"}'))
        self.assertEqual(self.run_ok('std::cout << "\\xc3\\x28";').text(), "\N{REPLACEMENT CHARACTER}(")

    def test_a_completion_cursor_out_of_range(self):
        for cursor in (-1, 10**6, 2**31, -(2**31), 2**63):
            reply = self.client.request("shell", "complete_request", {"code": "std::vect", "cursor_pos": cursor})
            self.assertEqual(reply["status"], "ok")
        self.assert_usable()

    def test_too_few_frames(self):
        whole = self.client.signed(self.client.session.msg_header("kernel_info_request"), {}, {}, {})
        for count in range(1, len(whole)):
            self.client.send_frames("shell", whole[:count])
        self.assert_unharmed(b"alone")

    def test_raw_tcp_noise_on_every_port(self):
        noise = random.Random(7).randbytes(20000)
        for port in ("shell_port", "control_port", "stdin_port", "iopub_port", "hb_port"):
            for data in (b"GET / HTTP/1.1\r\n\r\n", noise, b"\xff" + b"\0" * 8 + b"\x7f" + noise):
                with socket.create_connection(("127.0.0.1", self.kernel.info[port]), timeout=10) as raw:
                    try:
                        raw.sendall(data)
                    except OSError:
                        pass  # the kernel may hang up at once
        self.client.beat()
        self.assert_usable()

    def test_an_undefined_symbol_fails_its_own_cell_only(self):
        cell = self.run_error("int nowhere_defined();\nnowhere_defined()")
        self.assertIn("nowhere_defined", cell.reply["evalue"])
        self.assertEqual(self.run_ok("1 + 1").result, "2")
        self.assertEqual(self.run_ok("int nowhere_defined() { return 3; }\nnowhere_defined()").result, "3")

    def test_a_redefined_function_replaces_the_old_one_for_new_cells_only(self):
        self.run_ok("int version() { return 1; }\nint caller_of_version() { return version(); }")
        self.run_ok("int version() { return 2; }")
        self.assertEqual(self.run_ok("version() * 10 + caller_of_version()").result, "21", "the old one is still there for those compiled with it")

    def test_store_history_false_does_not_count(self):
        self.run_ok("1;")
        for _ in range(3):
            self.assertEqual(self.run_ok("2;", store_history=False).reply["execution_count"], 1)
        self.assertEqual(self.run_ok("3;").reply["execution_count"], 2)

    def test_restart_is_echoed_in_the_shutdown_reply(self):
        for restart in (True, False):
            with self.subTest(restart=restart):
                kernel = type(self.kernel)()
                self.addCleanup(kernel.stop)
                client = kernel.client()
                msg_id = client.send("control", "shutdown_request", {"restart": restart})
                self.assertIs(client.reply(msg_id)["content"]["restart"], restart)

    def test_members_are_completed(self):
        self.run_ok("struct Robot { int arms; void walk_on(); };\nRobot robot;")
        for code, member in (("robot.", "arms"), ("robot.wa", "walk_on"), ("std::string s; s.subs", "substr"), ("std::vector<int> v;\nv.push_", "push_back")):
            matches = self.client.request("shell", "complete_request", {"code": code, "cursor_pos": len(code)})["matches"]
            self.assertTrue([m for m in matches if m.startswith(member)], (code, matches[:20]))


class Complaints(KernelTest):
    def test_cell_cannot_be_run_again(self):
        code = "#include <map>\nint n = 1;\nstruct S { int a; };\nint f(S s) { return s.a + n; }\nenum E { one };\nusing A = S;\nA a{2};\nf(a)"
        for _ in range(3):
            self.assertEqual(self.run_ok(code).result, "3")

    def test_function_definition_is_not_allowed_here(self):
        cell = self.run_ok("std::cout << 1;\nint late(int x) { return x + 1; }\nfor (int i = 0; i < 2; ++i) std::cout << late(i);\nstruct T { int v = 5; };\nT{}.v")
        self.assertEqual((cell.text(), cell.result), ("112", "5"))

    def test_interrupt_kills_the_kernel(self):
        self.run_ok("int kept = 7;")
        for code in ("for (;;) {}", "std::this_thread::sleep_for(60s);", "co_await caller::sleep_for(60s);"):
            with self.subTest(code=code):
                cell = self.client.execute('std::cout << "on" << std::endl;\n' + code)
                cell.wait_text("on")
                self.client.interrupt()
                cell.wait(10)
                self.assertEqual(cell.reply["ename"], "Interrupted")
        self.assertEqual(self.run_ok("kept").result, "7")

    def test_printf_output_lost(self):
        cell = self.run_ok('for (int i = 0; i < 1000; ++i) printf("%d\\n", i);\nputs("end"); std::system("echo child");')
        self.assertEqual(cell.text(), "".join(f"{i}\n" for i in range(1000)) + "end\nchild\n")

    def test_values_take_a_second_to_print(self):
        """Against an empty cell of the same kernel at the same time, so that the machine's load does not matter."""
        self.run_ok("std::vector<int> warm{1}; warm")

        def median(code):
            times = []
            for _ in range(7):
                begin = time.monotonic()
                self.run_ok(code)
                times.append(time.monotonic() - begin)
            return sorted(times)[3]

        nothing, value = median(";"), median("std::vector<int>{1, 2, 3}")
        self.assertLess(value, 0.2 + 10 * nothing)

    def test_completion_wrong_beyond_line_one(self):
        code = "int first_line = 1;\nint second = 2;\nfirst_l"
        reply = self.client.request("shell", "complete_request", {"code": code, "cursor_pos": len(code)})
        self.assertEqual([m for m in reply["matches"] if m.startswith("first_line")], ["first_line"])
        self.assertEqual(code[reply["cursor_start"] : reply["cursor_end"]], "first_l")
        code = "auto s = std::string(\"\N{GRINNING FACE}\");\ns.appe\nint after = 3;"
        cursor = code.index("appe") + 4
        reply = self.client.request("shell", "complete_request", {"code": code, "cursor_pos": cursor})
        self.assertTrue([m for m in reply["matches"] if m.startswith("append")])
        self.assertEqual(code[reply["cursor_start"] : reply["cursor_end"]], "appe")

    def test_unoptimised_code(self):
        self.assertTrue(is_optimised(self.run_ok(added(0)).text()))

    def test_comms_blocked_while_a_cell_is_busy(self):
        comm_id = uuid.uuid4().hex
        self.client.idle(self.client.send("shell", "comm_open", {"comm_id": comm_id, "target_name": "echo", "data": {}}))
        cell = self.client.execute('std::cout << "on" << std::endl; co_await caller::sleep_for(60s);')
        cell.wait_text("on")
        msg_id = self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": {"a": 1}})
        self.client.wait(lambda m: m["msg_type"] == "comm_msg" and parent_id(m) == msg_id, 10)
        self.assertEqual(self.client.of(cell.id, "shell"), [], "the cell still awaits")
        self.client.interrupt()
        cell.wait()

    def test_output_of_threads_in_the_wrong_cell(self):
        first = self.run_ok(
            "std::atomic<bool> go{false};\n"
            'auto worker = caller::Caller::current().to_thread([] { while (!go) std::this_thread::yield(); std::cout << "from the first" << std::endl; printf("printed by the first\\n"); });'
        )
        second = self.run_ok("go = true;\nco_await worker;\nstd::cout << \"from the second\" << std::endl;")
        self.assertEqual(second.text(), "from the second\n")
        first.wait_text("printed by the first")
        self.assertEqual(first.text(), "from the first\nprinted by the first\n")

    def test_no_concurrent_cells(self):
        slow = self.client.execute("// task\nco_await caller::sleep_for(60s);")
        slow.wait_started()
        self.assertEqual(self.run_ok("6 * 7").result, "42")
        self.assertEqual(self.client.of(slow.id, "shell"), [])
        self.client.interrupt()
        slow.wait()

    def test_numbers_follow_the_order_in_which_cells_start(self):
        """Run All with a thread cell among queued ones: it starts at once, and its number says so, as In[n] does."""
        self.run_ok("std::atomic<bool> go_on{false};")
        first = self.client.execute("while (!go_on) std::this_thread::yield();")
        first.wait_started()
        queued = self.client.execute("1;")
        thread = self.client.execute("// thread\n2;")
        thread.wait()
        self.run_ok("go_on = true;", metadata={"tags": ["thread"]})
        for cell in (first, queued):
            cell.wait()
        numbers = [cell.reply["execution_count"] for cell in (first, thread, queued)]
        self.assertEqual(numbers, sorted(numbers))
        self.assertEqual(numbers[:2], [2, 3])


class Outputs(KernelTest):
    def test_flushed_lines_coalesce_none_is_lost_and_the_first_comes_at_once(self):
        """Jupyter servers cut a kernel off above 1 000 iopub messages a second."""
        cell = self.client.execute(
            'std::cout << "first" << std::endl; std::this_thread::sleep_for(5ms);\nfor (int i = 0; i < 100000; ++i) std::cout << i << std::endl;'
        )
        time.sleep(3)  # a reader that does not read
        cell.wait(60)
        self.assertEqual(cell.text(), "first\n" + "".join(f"{i}\n" for i in range(100000)))
        self.assertEqual(cell.contents("stream")[0]["text"].partition("\n")[0], "first")
        self.assertLess(len(cell.contents("stream")), 500)
        self.assertEqual(cell.types()[-1], "status")

    def test_a_flood_stays_below_a_servers_limit_of_messages(self):
        begin = time.monotonic()
        cell = self.client.run('for (int i = 0; i < 20000; ++i) std::cout << std::string(1000, \'x\') << std::endl;', timeout=60)
        seconds = max(time.monotonic() - begin, 0.001)
        self.assertEqual(len(cell.text()), 20000 * 1001)
        self.assertLess(len(cell.contents("stream")) / seconds, 900)

    def test_lanes_of_comms_do_not_stay(self):
        """Ten thousand comms opened, used and closed leave no queue behind: memory levels off."""
        def own():  # without pages of files, which the kernel gives back when nothing happens
            with open(f"/proc/{self.kernel.pid}/statm", encoding="ascii") as statm:
                _, resident, shared, *_ = map(int, statm.read().split())
                return (resident - shared) * os.sysconf("SC_PAGE_SIZE")

        def many(count):
            for _ in range(count):
                comm_id = uuid.uuid4().hex
                self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": {}})
            self.client.idle(self.client.send("shell", "comm_msg", {"comm_id": "last", "data": {}}))
            self.client.messages.clear()

        many(15000)  # the signatures that guard against replays fill their table meanwhile
        grown = []
        for _ in range(3):  # in one of them the compiler may warm up
            before = own()
            many(10000)
            grown.append(own() - before)
            if grown[-1] < 6_000_000:
                return
        self.fail(f"a lane a comm would be some kilobytes each: {grown}")


class Subshells(KernelTest):
    def test_a_deleted_subshell_leaves_no_request_unanswered(self):
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        spinning = self.client.execute('std::cout << "on" << std::endl; for (;;) {}', subshell=subshell)
        spinning.wait_text("on")
        queued = [self.client.execute("1 + 1", subshell=subshell) for _ in range(5)]
        self.client.request("control", "kernel_info_request")
        self.assertEqual(self.client.request("control", "delete_subshell_request", {"subshell_id": subshell})["status"], "ok")
        for cell in (spinning, *queued):
            cell.wait()
            self.assertEqual(cell.reply["status"], "error", plain(cell.reply.get("traceback", [])))
        self.assert_usable()
