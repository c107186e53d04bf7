"""Run modes of a cell, and cells that run at the same time."""

import time

from support import KernelTest, plain


class Modes(KernelTest):
    def assert_concurrent(self, first_line, **options):
        begin = time.monotonic()
        slow = self.client.execute(f'{first_line}\nstd::cout << "slow" << std::flush; co_await caller::sleep_for(1s); std::cout << "end";', **options)
        slow.wait_text("slow")
        quick = self.run_ok("6 * 7")
        self.assertEqual(quick.result, "42")
        self.assertLess(time.monotonic() - begin, 1)
        slow.wait()
        self.assertEqual(slow.text(), "slowend")

    def test_a_task_cell_lets_others_go_on(self):
        self.run_ok("1;")
        self.assert_concurrent("// task")

    def test_a_thread_cell_lets_others_go_on(self):
        self.run_ok("1;")
        self.assert_concurrent("// thread")
        self.assert_concurrent("// thread name=worker")

    def test_a_tag_decides_before_the_first_line(self):
        self.run_ok("1;")
        self.assert_concurrent("// queue", metadata={"tags": ["task"]})

    def test_a_thread_cell_runs_elsewhere_and_may_spin(self):
        self.run_ok("volatile bool mode_stop = false; std::thread::id main_id = std::this_thread::get_id();")
        cell = self.client.execute('// thread\nstd::cout << (std::this_thread::get_id() != main_id) << std::flush; while (!mode_stop) {}')
        cell.wait_text("1")
        self.run_ok("mode_stop = true;")
        self.assertEqual(cell.wait().reply["status"], "ok")

    def test_named_threads_are_the_same_thread(self):
        code = "// thread name=mine\nstd::cout << std::this_thread::get_id();"
        self.assertEqual(self.run_ok(code).text(), self.run_ok(code).text())
        self.assertIn("mine", self.run_ok("%callers").text())

    def test_a_thread_cell_may_choose_the_backend(self):
        code = '// thread name={0}_thread backend={0}\nco_await caller::sleep_for(1ms); caller::Caller::current().backend() == caller::Backend::{0}'
        for backend in ("asio", "manual", "uv"):
            cell = self.client.run(code.format(backend))
            if backend == "uv" and cell.reply["status"] == "error":
                self.assertIn("libuv", cell.reply["evalue"])
                self.skipTest("built without libuv")
            self.assertEqual(cell.reply["status"], "ok", plain(cell.reply.get("traceback", [])))
            self.assertEqual(cell.result, "true", backend)
        refused = self.run_error("// thread name=uv_thread backend=manual\n1")
        self.assertIn("uv", refused.reply["evalue"])

    def test_only_the_exact_comment_counts(self):
        self.run_ok("1;")
        for line in ("// task is a word", "// tasks", "//task", "/* task */", " int thread = 1; // task"):
            slow = self.client.execute(f"{line}\nco_await caller::sleep_for(300ms);")
            quick = self.client.execute("2;")
            slow.wait()
            quick.wait()
            if line != "//task":
                self.assertLess(slow.reply_message["arrived"], quick.reply_message["arrived"], line)

    def test_cells_in_the_queue_run_one_after_the_other(self):
        cells = [self.client.execute(f"co_await caller::sleep_for({50 - 10 * i}ms); {i}") for i in range(5)]
        arrivals = [cell.wait().reply_message["arrived"] for cell in cells]
        self.assertEqual(arrivals, sorted(arrivals))
        self.assertEqual([cell.reply["execution_count"] for cell in cells], [1, 2, 3, 4, 5])


class Crossing(KernelTest):
    def test_output_of_task_cells_never_crosses(self):
        self.run_ok("#include <cstdio>")
        cells = [
            self.client.execute(
                f'// task\nfor (int i = 0; i < 30; ++i) {{ std::cout << "<{n}" << std::flush; std::printf("{n}>"); std::fflush(stdout); co_await caller::sleep_for(2ms); }}\n{n}'
            )
            for n in range(8)
        ]
        for n, cell in enumerate(cells):
            cell.wait()
            self.assertEqual(cell.reply["status"], "ok")
            self.assertEqual(set(cell.text()), {"<", ">", str(n)}, cell.text())
            self.assertEqual(cell.text().count(f"<{n}"), 30)
            self.assertEqual(cell.text().count(f"{n}>"), 30)
            self.assertEqual(cell.result, str(n))

    def test_output_of_thread_cells_never_crosses(self):
        cells = [
            self.client.execute(f'// thread\nfor (int i = 0; i < 300; ++i) std::cout << "{n}" << std::flush;\nstd::cerr << "e{n}"; {n}')
            for n in range(4)
        ]
        for n, cell in enumerate(cells):
            cell.wait()
            self.assertEqual(cell.text(), str(n) * 300)
            self.assertEqual(cell.text("stderr"), f"e{n}")
            self.assertEqual(cell.result, str(n))

    def test_what_a_cell_started_reports_to_it(self):
        first = self.client.execute(
            '// task\nauto inner = caller::Caller::current().call_later(200ms, [] { std::cout << "first" << std::flush; });'
            "\nco_await caller::Caller::current().to_thread([] { std::cout << \"T\" << std::flush; });"
        )
        second = self.client.execute('// task\nstd::cout << "second";')
        first.wait()
        second.wait()
        first.wait_text("first")
        self.assertEqual(first.text(), "Tfirst")
        self.assertEqual(second.text(), "second")

    def test_errors_go_to_their_own_cell(self):
        bad = self.client.execute('// task\nco_await caller::sleep_for(100ms); throw std::runtime_error("mine");')
        good = self.client.execute("// task\nco_await caller::sleep_for(200ms); 5")
        self.assertEqual(bad.wait().reply["evalue"], "mine")
        self.assertEqual(good.wait().result, "5")

    def test_displays_go_to_their_own_cell(self):
        cells = [self.client.execute(f"// task\nfor (int i = 0; i < 5; ++i) {{ caller::display({n}); co_await caller::sleep_for(1ms); }}") for n in range(5)]
        for n, cell in enumerate(cells):
            cell.wait()
            self.assertEqual([c["data"]["text/plain"] for c in cell.contents("display_data")], [str(n)] * 5)
