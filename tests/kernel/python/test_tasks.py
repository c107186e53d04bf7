"""Tasks in cells: functions of cells by app.task(f), %%task, workers that compile what a notebook defined."""

import os
import signal
import subprocess
import unittest

from magic_support import MagicTest
from support import plain

BEGIN = """#include <caller/kernel/tasks.hpp>
using namespace caller::task;
App app = AppBuilder{}.app_id("demo").build();
auto runner = app.thread_runner({.slots = 2});
runner->start();"""


def progress(cell):
    """The texts of the display of a %%task cell, the last one at the end."""
    shown = [m for m in cell.iopub if m["msg_type"] in ("display_data", "update_display_data")]
    return [m["content"]["data"] for m in shown if m["content"]["transient"].get("display_id", "").startswith("caller-task-")]


class TaskTest(MagicTest):
    def begin(self, code=BEGIN):
        self.run_ok(code)

    def value(self, code):
        return self.run_ok(code).result


class Functions(TaskTest):
    """app.task(f): names, defaults and types come from the declaration."""

    def test_a_function_of_a_cell_is_a_task_with_its_names_and_defaults(self):
        self.begin()
        self.run_ok("int add_numbers(int x, int y = 40 + 2) { return x + y; }")
        self.run_ok("auto add = app.task(add_numbers);")
        self.assertEqual(self.value("add(1, 2).result()"), "3")
        self.assertEqual(self.value("co_await add(1)"), "43")
        self.assertEqual(self.value("app.store().get(add(5).id()).wait().args"), '"{\\"x\\":5,\\"y\\":42}"')
        self.assertRegex(self.value("add.task_id()"), r'^"add_numbers@[0-9a-f]{12}"$')

    def test_all_in_one_cell_and_defaults_mean_what_they_mean_where_they_are_written(self):
        self.run_ok(
            BEGIN + "\nnamespace mine { constexpr int kMore = 7; struct Size { int w = 1, h = 2; };\n"
            "CALLER_TASK_FIELDS(Size, w, h)\n"
            "int area(Size s, int more = kMore) { return s.w * s.h + more; } }\n"
            "auto area = app.task(mine::area);\nint first = area(mine::Size{3, 4}).result();\nfirst"
        )
        self.assertEqual(self.value("area(mine::Size{}, 1).result()"), "3")
        self.assertEqual(self.value("first"), "19")

    def test_lambdas_coroutines_and_stop_tokens(self):
        self.begin()
        self.run_ok(
            "int factor = 3;\nauto times = [](int x, int by = 2) { return factor * x * by; };\n"
            "caller::Coro<std::string> slowly(std::string text, int n = 2) {\n"
            "  std::string out;\n  for (int i = 0; i < n; ++i) { co_await caller::yield_now(); out += text; }\n  co_return out;\n}\n"
            "bool stops(std::stop_token stop, int n) { return stop.stop_requested() || n > 0; }\n"
            "void nothing() {}"
        )
        self.run_ok("auto a = app.task(times);\nauto b = app.task(slowly, {.priority = 1});\nauto c = app.task(stops);\nauto d = app.task(&nothing);")
        self.assertEqual(self.value("a(5).result() + a(1, 1).result()"), "33")
        self.assertEqual(self.value('co_await b("ab", 3)'), '"ababab"')
        self.assertEqual(self.value("c(1).result()"), "true")
        self.run_ok("d().result();")
        self.assertEqual(self.value("b.conf().priority"), "1")

    def test_the_id_follows_the_text_and_objects_keep_what_they_were_made_of(self):
        self.begin()
        helper = "int helper(int x) { return x + 1; }"
        function = "int work(int x) { return 10 * helper(x); }"
        self.run_ok(helper)
        self.run_ok(function)
        self.run_ok("auto first = app.task(work);")
        one = self.value("first.task_id()")
        self.run_ok("int unrelated = 1;")
        self.run_ok(function)
        self.run_ok("auto same = app.task(work);")
        self.assertEqual(self.value("same.task_id()"), one)
        self.run_ok("int helper(int x) { return x + 2; }")
        self.run_ok(function)
        self.run_ok("auto second = app.task(work);")
        self.assertNotEqual(self.value("second.task_id()"), one)
        self.assertEqual(self.value("first(1).result()"), "20")
        self.assertEqual(self.value("second(1).result()"), "30")
        # Other options are another task; other parameters leave an overload behind, and the newest is meant.
        self.run_ok("auto third = app.task(work, {.max_retries = 1});")
        self.assertNotEqual(self.value("third.task_id()"), self.value("second.task_id()"))
        self.run_ok("int work(int x, int more = 5) { return x + more; }")
        self.run_ok("auto fourth = app.task(work);")
        self.assertEqual(self.value("fourth(1).result()"), "6")

    def test_what_cannot_be_a_task_is_refused_with_its_reason_and_place(self):
        self.begin()
        self.run_ok(
            "template <class T> T twice(T x) { return 2 * x; }\nint both(int x) { return x; }\ndouble both(double x) { return x; }\n"
            "int nameless(int, int y) { return y; }\nauto any = [](auto x) { return x; };\nint number = 1;"
        )
        for name, reason in (
            ("twice", "is a template"),
            ("both", "is overloaded"),
            ("nameless", "has a parameter without a name"),
            ("any", "takes arguments of any type"),
            ("number", "is a variable of type int"),
        ):
            cell = self.run_error(f"\nauto t = app.task({name});")
            self.assertIn(reason, cell.reply["evalue"], cell.reply)
            self.assertIn(name, cell.reply["evalue"])
            if name != "nameless":
                self.assertIn("line 2, column 19", plain(cell.reply["traceback"]))
        cell = self.run_error("auto t = app.task([](int x) { return x; });")
        self.assertEqual(cell.reply["ename"], "caller::task::TaskRoutingError")
        self.assertIn("by its name", cell.reply["evalue"])
        self.assert_usable()

    def test_other_classes_may_have_a_member_of_that_name(self):
        self.begin()
        self.run_ok("int one() { return 1; }\nstruct Other { template <class F> int task(F f) { return 10 * f(); } } other;")
        self.assertEqual(self.value("other.task(one)"), "10")

    def test_nested_tasks_groups_and_the_family_tree(self):
        self.begin()
        self.run_ok("int square(int x) { return x * x; }\nauto square_task = app.task(square);")
        self.run_ok(
            "int sum_of_squares(int n) {\n  std::vector<std::tuple<int>> calls;\n  for (int i = 1; i <= n; ++i) calls.emplace_back(i);\n"
            "  int sum = 0;\n  for (int r : square_task.parallelize(calls).results()) sum += r;\n  return sum;\n}\n"
            "auto sum_task = app.task(sum_of_squares);"
        )
        self.run_ok("auto sum = sum_task(5);")
        self.assertEqual(self.value("co_await sum"), "55")
        cell = self.run_ok("caller::family_tree(app, sum)")
        data = cell.contents("execute_result")[0]["data"]
        self.assertEqual(data["text/plain"].count("square: SUCCESS"), 5)
        self.assertTrue(data["text/plain"].startswith("sum_of_squares: SUCCESS"), data["text/plain"])
        self.assertEqual(data["image/svg+xml"].count("<circle"), 6)


class Errors(TaskTest):
    """What goes wrong in a task is the cell's error, or the invocation's alone."""

    def test_an_exception_of_a_task_has_its_own_type_in_the_cell(self):
        self.begin()
        self.run_ok('struct Broken : std::runtime_error { using runtime_error::runtime_error; };\n'
                    'int fails(int x) { throw Broken("no " + std::to_string(x)); }\nauto fail = app.task(fails);\n'
                    'int out(int x) { return std::vector<int>{1, 2}.at(static_cast<std::size_t>(x)); }\nauto at = app.task(out);')
        for code in ("fail(3).result()", "co_await fail(3)"):
            cell = self.run_error(code)
            self.assertEqual((cell.reply["ename"], cell.reply["evalue"]), ("Broken", "no 3"))
        self.assertEqual(self.run_error("at(7).result()").reply["ename"], "std::out_of_range")
        self.assert_usable()

    def test_an_interrupt_ends_the_wait_and_not_the_task(self):
        self.begin()
        self.run_ok("caller::Coro<int> sleeps(int ms) { co_await caller::sleep_for(std::chrono::milliseconds(ms)); co_return ms; }\n"
                    "auto sleep = app.task(sleeps);\nauto inv = sleep(3'600'000);")
        for code in ("co_await inv", "inv.result()"):
            cell = self.client.execute(code).wait_started()
            self.client.interrupt()
            self.assertEqual(cell.wait().reply["ename"], "Interrupted")
        self.assertIn(self.value("name(inv.status())"), ('"RUNNING"', '"PENDING"'))
        self.assertEqual(self.value("inv.cancel()"), "true")
        self.assertEqual(self.run_error("inv.result()").reply["ename"], "caller::task::InvocationCancelledError")
        self.assert_usable()

    def test_a_crash_and_an_endless_loop_are_the_invocations(self):
        self.begin()
        self.run_ok("int crash(int x) { volatile int* p = nullptr; return *p + x; }\nauto crash_task = app.task(crash);\n"
                    "int spin(int x) { for (volatile int i = 0;; i = i + 1) if (i < 0) return x; }\n"
                    "auto spin_task = app.task(spin, {.timeout = std::chrono::milliseconds(200)});")
        cell = self.run_error("crash_task(1).result()")
        self.assertIn("SegmentationFault", cell.reply["ename"] + cell.reply["evalue"], cell.reply)
        self.assertEqual(self.run_error("spin_task(1).result()").reply["ename"], "caller::task::TaskTimeoutError")
        # Both slots are free again.
        self.run_ok("int one(int x) { return x; }\nauto one_task = app.task(one);\n"
                    "std::vector<std::tuple<int>> calls(4, std::tuple(1));")
        self.assertEqual(self.value("one_task.parallelize(calls).results().size()"), "4")
        self.assert_usable()


class TaskCells(TaskTest):
    """%%task: the body runs as a task, and its progress is shown."""

    def test_the_result_is_shown_and_what_it_declares_stays(self):
        for runner in ("thread", "sync"):
            cell = self.run_ok(f"%%task --runner {runner}\nint answer = 6 * 7;\nstd::cout << \"at work\\n\";\nanswer + 1")
            self.assertEqual(cell.result, "43", runner)
            self.assertEqual(cell.text(), "at work\n")
            last = progress(cell)[-1]
            self.assertRegex(last["text/plain"], rf"^cell\[\d+\] of notebook, {runner}: SUCCESS: [0-9.]+ s$")
            self.assertIn("SUCCESS", last["text/html"])
            self.assertEqual(self.value("answer"), "42")

    def test_awaits_and_children_of_an_application_of_the_session(self):
        self.begin()
        self.run_ok("int square(int x) { return x * x; }\nauto square_task = app.task(square);")
        cell = self.run_ok("%%task --app demo --name sum\nint sum = 0;\nfor (int i = 1; i < 4; ++i) sum += square_task(i).result();\n"
                           "sum += co_await square_task(10);\nsum")
        self.assertEqual(cell.result, "114")
        last = progress(cell)[-1]
        self.assertIn("sum of demo, thread: SUCCESS", last["text/plain"])
        self.assertIn("4 tasks below it: 4 SUCCESS", last["text/plain"])
        self.assertEqual(last["text/html"].count("<circle"), 5)

    def test_an_exception_is_the_cells_with_its_lines(self):
        for runner in ("thread", "sync"):
            cell = self.run_error(f"%%task --runner={runner}\n\nint x = 1;\nif (x) throw std::runtime_error(\"bad\");")
            self.assertEqual((cell.reply["ename"], cell.reply["evalue"]), ("std::runtime_error", "bad"), runner)
            self.assertRegex(plain(cell.reply["traceback"]), r"Cell \[\d+\], line 4")
            self.assertIn("FAILED", progress(cell)[-1]["text/plain"])
        cell = self.run_error("%%task\n\nint y = nothing_like_it;")
        self.assertEqual(cell.reply["ename"], "CompileError")
        self.assertIn("line 3", cell.reply["evalue"])
        cell = self.run_error("%%task\nvolatile int* p = nullptr;\n*p = 1;")
        self.assertEqual(cell.reply["ename"], "SegmentationFault")
        self.assertIn("line 3", cell.reply["evalue"])
        self.assert_usable()

    def test_retries_and_time_outs(self):
        cell = self.run_ok("%%task --retries 2\nstatic int tries = 0;\nif (++tries < 3) throw std::runtime_error(\"not yet\");\ntries")
        self.assertEqual(cell.result, "3")
        self.assertIn("2 retries", progress(cell)[-1]["text/plain"])
        cell = self.run_error("%%task --timeout 0.2\nfor (volatile int i = 0;; i = i + 1);")
        self.assertEqual(cell.reply["ename"], "caller::task::TaskTimeoutError")
        self.assert_usable()

    def test_an_interrupt_cancels_the_task(self):
        for runner in ("thread", "sync"):
            for body in ("for (volatile int i = 0;; i = i + 1);", "co_await caller::sleep_for(std::chrono::hours(1));",
                         "std::this_thread::sleep_for(std::chrono::hours(1));"):
                with self.subTest(runner=runner, body=body):
                    cell = self.client.execute(f"%%task --runner {runner}\nstd::cout << \"go\" << std::endl;\n{body}").wait_text("go")
                    self.client.interrupt()
                    self.assertEqual(cell.wait().reply["ename"], "Interrupted")
        self.assert_usable()

    def test_the_store_may_be_a_file(self):
        file = self.folder / "tasks.db"
        self.assertEqual(self.run_ok(f"%%task --app filed --sqlite {file}\n1 + 1").result, "2")
        self.run_ok(BEGIN.replace("demo", "filed").replace(".build()", f'.sqlite("{file}").build()'))
        self.assertEqual(self.value("name(app.store().list(\"\", std::nullopt, 0, 10).wait().at(0).status)"), '"SUCCESS"')

    def test_wrong_use_is_an_error_with_the_nearest_name(self):
        self.assert_usage("%%task --runer thread\n1", "no option --runer", "did you mean --runner?")
        self.assert_usage("%%task --runner thraed\n1", 'no runner "thraed"', 'did you mean "thread"?')
        self.assert_usage("%%task --retries many\n1", "--retries", "many")
        self.assert_usage("%%task --timeout -1\n1", "--timeout")
        self.assert_usage("%%task --sqlite a --url redis://b\n1", "not both")
        self.assert_usage("%%task word\n1", "found \"word\"")
        self.assert_usage("%%task\n", "needs code")
        self.assertIn("%%task", self.run_ok("%lsmagic").text())
        shown = self.run_ok("%%task?").reply["payload"][0]["data"]["text/plain"]
        self.assertIn("--runner", shown)


class Workers(TaskTest):
    """Functions of this notebook, executed by a process that was never told of them."""

    def setUp(self):
        super().setUp()
        self.file = self.folder / "tasks.db"
        self.run_ok("#include <caller/kernel/tasks.hpp>\nusing namespace caller::task;\n"
                    f'App app = AppBuilder{{}}.app_id("shared").sqlite("{self.file}").build();')

    def worker(self):
        """A runner as one starts it in another terminal; Ctrl-C ends it with the test."""
        log = open(self.folder / "worker.log", "w+b")  # pylint: disable=consider-using-with
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            [os.environ["CALLER_PROGRAM"], "runner", "start", "--jit", "--sqlite", str(self.file), "--app-id", "shared", "--slots", "1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd=self.folder,
        )  # fmt: skip

        def end():
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(30)
            finally:
                process.kill()
                process.stdout.close()
                log.seek(0)
                self.said = log.read().decode()
                log.close()
            self.assertEqual(code, 0, self.said)

        self.addCleanup(end)
        self.assertRegex(process.stdout.readline(), rb"\ARunner \S+ executes tasks of application shared from .*tasks\.db.*\n\Z")
        return process

    def test_what_a_function_needs_travels_with_it(self):
        self.run_ok("#include <numbers>\n#define TWICE(x) ((x) * 2)\nint unrelated = 1;")
        self.run_ok("struct Point { double x = 0, y = 0; };\nPoint operator+(Point a, Point b) { return {a.x + b.x, a.y + b.y}; }\n"
                    "CALLER_TASK_FIELDS(Point, x, y)\nnamespace geo { constexpr double kScale = 0.5;\n"
                    "template <class T> T scaled(T v) { return v * kScale; } }")
        self.run_ok("using namespace geo;\nusing Points = std::vector<Point>;\nenum class Mode { plain, twice };\nint calls = 0;")
        self.run_ok("Point centre(Points all, Mode mode = Mode::twice, double more = std::numbers::pi) {\n"
                    "  ++calls;\n  Point sum;\n  for (const Point& p : all) sum = sum + p;\n"
                    "  sum.x = scaled(sum.x);\n  if (mode == Mode::twice) sum.y = TWICE(sum.y);\n  sum.y += more;\n  return sum;\n}")
        self.run_ok("auto centre_task = app.task(centre);")
        self.worker()
        self.run_ok("auto inv = centre_task(Points{{1, 2}, {3, 4}}, Mode::twice, 1.0);")
        self.assertEqual(self.value("auto p = co_await inv; std::to_string(p.x) + \" \" + std::to_string(p.y)"), '"2.000000 13.000000"')
        self.assertEqual(self.value("calls"), "0")
        text = self.value("*detail::stored_source(app.store(), centre_task.task_id())")
        self.assertNotIn("unrelated", text)

    def test_tasks_of_tasks_and_options_go_along_and_errors_come_back(self):
        self.run_ok("struct Flaky : std::runtime_error { using runtime_error::runtime_error; };\nint tries = 0;\n"
                    'int third(int x) { if (++tries < 3) throw Flaky("not yet"); return x; }\n'
                    "auto third_task = app.task(third, {.retry_for = errors<Flaky>(), .max_retries = 5});")
        self.run_ok("caller::Coro<int> sum(int n) {\n  int out = 0;\n  for (int i = 1; i <= n; ++i) out += co_await third_task(i);\n"
                    "  co_return out;\n}\nauto sum_task = app.task(sum);\n"
                    'int fails(int x) { throw Flaky("no " + std::to_string(x)); }\nauto fails_task = app.task(fails);')
        self.worker()
        self.run_ok("auto inv = sum_task(4);")
        self.assertEqual(self.value("co_await inv"), "10")
        self.assertEqual(self.value("caller::family_tree(app, inv).members.size()"), "5")
        self.assertEqual(self.value("tries"), "0")
        cell = self.run_error("co_await fails_task(1)")
        self.assertEqual((cell.reply["ename"], cell.reply["evalue"]), ("Flaky", "no 1"))

    def test_a_crash_of_such_code_and_an_unknown_id_are_the_invocations_failure(self):
        self.run_ok("int crash(int x) { volatile int* p = nullptr; return *p + x; }\nauto crash_task = app.task(crash);\n"
                    "int one(int x) { return x; }\nauto one_task = app.task(one);\nauto other = app.task(\"other\", one, {\"x\"});")
        process = self.worker()
        cell = self.run_error("co_await crash_task(1)")
        self.assertIn("SegmentationFault", cell.reply["ename"] + cell.reply["evalue"], cell.reply)
        self.assertEqual(self.run_error("co_await other(1)").reply["ename"], "caller::task::UnknownTaskError")
        self.assertEqual(self.value("co_await one_task(7)"), "7")
        self.assertIsNone(process.poll())

    def test_cells_that_are_tasks_are_left_to_their_kernel_by_runners_of_all_queues(self):
        self.run_ok("int one(int x) { return x; }\nauto one_task = app.task(one);\nint here = 0;")
        self.worker()
        self.run_ok("auto all = app.thread_runner({.slots = 2});\nall->start();")
        for n in range(1, 6):
            for runner in ("thread", "sync"):
                cell = self.run_ok(f"%%task --app shared --runner {runner}\n++here;\nco_await one_task({n})")
                self.assertEqual(cell.result, str(n))
        self.assertEqual(self.value("here"), "10")
        self.run_ok("all->stop().wait();")


if __name__ == "__main__":
    unittest.main()
