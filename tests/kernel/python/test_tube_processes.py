"""%%tube: a process for each node, also for those that only cells define."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import tempfile
import time

from support import PROGRAM, plain
from tube_support import SIMPLE, TubeCellTest, progress, results, simple


class Cluster(TubeCellTest):
    """Each node in a process of its own."""

    BUILT_IN = SIMPLE.replace("TYPE", "noob.testing.multiply").replace("x: count", "left: count")

    def test_built_in_nodes_and_those_of_plugins_run_in_processes(self):
        cell = self.run_ok("%%tube --runner cluster\n" + self.BUILT_IN)
        self.assertEqual(results(cell), ["0", "2", "4", "6"])
        self.assertIn("4 epochs", progress(cell)[-1])
        self.assertIn("twice 4", progress(cell)[-1])
        plugin = pathlib.Path(PROGRAM).parents[1] / "tests/lib/libtest_tube_plugin.so"
        self.assertTrue(plugin.exists(), plugin)
        for runner in ("sync", "cluster"):
            cell = self.run_ok(f"%%tube -n 4 --runner {runner} --plugin {plugin}\nnoob_id: plugged\nnodes:\n  s: {{type: plugin.squares}}\n  r: {{type: return, depends: s.value}}\n")
            self.assertEqual(results(cell), ["0", "1", "4", "9"])

    def test_an_endless_one_is_interrupted_and_leaves_no_process(self):
        def children():
            path = pathlib.Path(f"/proc/{self.kernel.pid}/task")
            return sum(len((task / "children").read_text().split()) for task in path.iterdir())

        before = children()
        for node in ("{type: noob.testing.multiply, depends: [{left: c.index}]}", "{type: noob.testing.just_wait, params: {wait_for: 3600}, depends: [{value: c.index}]}"):
            cell = self.client.execute("%%tube --runner cluster\nnoob_id: endless\nnodes:\n  c: {type: noob.testing.count_source, params: {limit: 1000000000}}\n  n: " + node + "\n")
            self.client.wait(lambda m, id=cell.id: (m.get("parent_header") or {}).get("msg_id") == id and re.search("c [1-9]", str(m["content"])))
            begin = time.monotonic()
            self.client.interrupt()
            cell.wait()
            self.assertLess(time.monotonic() - begin, 3)  # a process that does not leave is killed after a second
            self.assertEqual(cell.reply["ename"], "Interrupted")
            self.assertEqual(children(), before)
            self.assert_usable()


class CellsInProcesses(TubeCellTest):
    """Nodes that only cells define, under the cluster runner: each in a process that compiles what it needs."""

    def setUp(self):
        # Folders for sockets are counted, and other tests make some, too.
        self.temporary = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.temporary, True)
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(self.temporary)
        try:
            super().setUp()
        finally:
            del os.environ["TMPDIR"]
            if before is not None:
                os.environ["TMPDIR"] = before

    def run_ok(self, code, **options):
        return super().run_ok(code, **{"timeout": 100, **options})  # a compiler starts for each node

    def run_error(self, code, **options):
        return super().run_error(code, **{"timeout": 100, **options})

    def children(self):
        """The processes of nodes; the compiler's copy is no child."""
        found = []
        for task in pathlib.Path(f"/proc/{self.kernel.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that ends meanwhile
                for pid in (task / "children").read_text().split():
                    with contextlib.suppress(OSError):  # as whoever forks the compiler's copy does at once
                        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                        if b"--caller-tube-node" in words:
                            found.append((int(pid), words[0].decode()))
        return found

    def folders(self):
        return sorted(p.name for p in self.temporary.glob("caller-tube-*"))

    def begin(self, code, sign):
        """Starts an endless cell and waits until its output has `sign`."""
        cell = self.client.execute(code)
        self.client.wait(lambda m, id=cell.id: (m.get("parent_header") or {}).get("msg_id") == id and sign in str(m["content"]), 90)
        return cell

    def test_a_process_of_nodes_starts_with_all_that_is_precompiled_and_without_objects_of_this_one(self):
        self.run_ok("int twice(int x) { return 2 * x; }")
        cell = self.run_ok(simple("twice", "--runner cluster", "first"))
        self.assertEqual(results(cell), ["0", "2", "4", "6"])
        self.assertEqual(cell.text("stderr"), "")  # where a process says that it starts slowly
        self.run_ok("#include <caller/tube/all.hpp>\nint length(int x) { return x + static_cast<int>(tubes::first.id().size()); }")
        self.assertIn('it uses "first", an object that only this process has', self.run_error(simple("length", "--runner cluster", "second")).reply["evalue"])

    def test_functions_lambdas_classes_coroutines_and_generators_are_nodes_by_name(self):
        self.run_ok("int factor = 4;\nnamespace mine { constexpr int kStep = 7; int add(int x, int by = kStep) { return x + by; } }\nauto times = [](int x, int more = 1) { return x * factor + more; };")
        self.run_ok("struct Sum { explicit Sum(int start) : total(start) {} int process(int x) { return total += x; } int total; };\n"
                    "caller::Coro<int> slow(int x) { co_await caller::sleep_for(1ms); co_return x * 10; }\n"
                    "caller::Generator<int> odd(int limit = 7) { for (int i = 1; i < limit; i += 2) co_yield i; }\n"
                    "struct Down { explicit Down(int from) : n(from) {} std::optional<int> next() { if (n == 0) return {}; return n--; } int n; };")
        tube = ("%%tube --runner {}\nnoob_id: kinds\nnodes:\n  odd: {{type: odd}}\n  down: {{type: Down, params: {{from: 5}}}}\n"
                "  a: {{type: mine.add, depends: [odd.value]}}\n  t: {{type: times, depends: [a.value]}}\n  s: {{type: Sum, params: {{start: 100}}, depends: [t.value]}}\n"
                "  c: {{type: slow, depends: [down.value]}}\n  r: {{type: return, depends: [s.value, c.value, odd.value]}}\n")
        expected = results(self.run_ok(tube.format("sync")))
        self.assertEqual(expected, ["[133,50,1]", "[174,40,3]", "[223,30,5]"])
        self.assertEqual(results(self.run_ok(tube.format("cluster"))), expected)
        # What is defined anew takes effect at the next run, also what only a node uses.
        self.run_ok("factor = 50;")  # not the value of a running program …
        self.assertEqual(results(self.run_ok(tube.format("cluster"))), expected)
        self.run_ok("int factor = 0;\nauto times = [](int x, int more = 1) { return x * factor + more; };")  # … its text
        self.assertEqual(results(self.run_ok(tube.format("cluster"))), ["[101,50,1]", "[102,40,3]", "[103,30,5]"])
        self.assertEqual(self.children(), [])

    def test_only_processes_with_nodes_of_cells_compile(self):
        self.run_ok("caller::Generator<int> forever() { for (int i = 0;; ++i) co_yield i; }")
        cell = self.begin("%%tube --runner cluster\nnoob_id: mixed\nnodes:\n  f: {type: forever}\n  m: {type: noob.testing.multiply, depends: [{left: f.value}]}\n", "m 1")
        programs = sorted(pathlib.Path(f"/proc/{pid}/exe").resolve().name for pid, _ in self.children())
        self.client.interrupt()
        cell.wait()
        self.assertEqual(programs, ["caller", "caller-tube-node"])

    def test_objects_of_cells_cross_between_processes(self):
        self.run_ok("enum class Colour { red, green };\nstruct Point { double x, y; char mark = 'm'; std::array<int, 2> cell; Colour colour = Colour::green; };\n"
                    "struct Path { std::string name; std::vector<Point> points; std::optional<std::map<int, std::string>> notes; double box[2]; };")
        self.run_ok("class Money { public: bool operator==(const Money&) const = default; Money() = default; explicit Money(long c) : cents_(c) {} long cents() const { return cents_; } private: long cents_ = 0; };\n"
                    "#include <caller/tube/all.hpp>\ncaller::tube::Value tube_encode(const Money& m) { return m.cents(); }\n"
                    "void tube_decode(const caller::tube::Value& v, Money& m) { m = Money(v.to<long>()); }")
        self.run_ok('Path draw(int n) { return {"p" + std::to_string(n), {{1.5, 2, char(107), {n, 7}}, {0, 0, char(107), {1, 1}, Colour::red}}, std::map<int, std::string>{{n, "note"}}, {1, 2}}; }\n'
                    "std::tuple<std::string, long> use(const Path& p, std::variant<int, Money> m) { return {p.name + p.notes->begin()->second + std::to_string(p.points.at(0).cell[0]) + "
                    "(p.points[1].colour == Colour::red ? \"red\" : \"?\"), std::get<Money>(m).cents() + long(p.box[1])}; }\n"
                    "std::variant<int, Money> pay(int n) { return Money(100 * n); }")
        tube = ("%%tube --runner {}\nnoob_id: crossing\nnodes:\n  c: {{type: noob.testing.count_source, params: {{limit: 3}}}}\n  d: {{type: draw, depends: [c.index]}}\n"
                "  p: {{type: pay, depends: [c.index]}}\n  five: {{type: gather, params: {{n: 1}}, depends: [{{value: d.value}}]}}\n  each: {{type: map, depends: [{{value: five.value}}]}}\n"
                "  u: {{type: use, depends: [{{p: each.value}}, {{m: p.value}}]}}\n  r: {{type: return, depends: u.value}}\n")
        expected = results(self.run_ok(tube.format("sync")))
        self.assertEqual(len(expected), 3)
        self.assertIn("p2note2red", expected[2])
        self.assertEqual(results(self.run_ok(tube.format("cluster"))), expected)

    def test_what_cannot_cross_is_refused_with_what_to_do(self):
        self.run_ok("class Closed { public: explicit Closed(int n) : n_(n) {} int n() const { return n_; } private: int n_; };\nClosed shut(int x) { return Closed(x); }\nint open(const Closed& c) { return c.n(); }")
        code = ("%%tube --runner cluster\nnoob_id: closed\nnodes:\n  c: {type: noob.testing.count_source, params: {limit: 3}}\n"
                "  s: {type: shut, depends: [c.index]}\n  o: {type: open, depends: [s.value]}\n  r: {type: return, depends: o.value}\n")
        cell = self.run_error(code)
        for part in ('"s.value"', '"o"', "Closed", "tube_encode", "tube_decode"):
            self.assertIn(part, cell.reply["evalue"])
        self.assertNotIn("__cell_", str(cell.reply))

    def test_an_asset_and_a_tube_inside_are_of_cells_too(self):
        self.run_ok("struct Store { explicit Store(int from = 5) : n(from) {} int n; };\nint take(int x, Store& store) { return store.n += x; }\nint minus(int x) { return -x; }")
        self.run_ok("%%tube --input x=1\nnoob_id: inner\ninput:\n  x: {type: int, scope: process}\nnodes:\n  t: {type: minus, depends: [input.x]}\n  r: {type: return, depends: [{y: t.value}]}\n")
        cell = self.run_ok(
            "%%tube --runner cluster\nnoob_id: with-asset\nassets:\n  store: {type: Store, scope: runner, params: {from: 50}}\nnodes:\n"
            "  c: {type: noob.testing.count_source, params: {limit: 3}}\n  t: {type: take, depends: [{x: c.index}, {store: assets.store}]}\n"
            "  i: {type: tube, params: {tube: inner}, depends: [{x: t.value}]}\n  r: {type: return, depends: i.y}\n"
        )
        self.assertEqual(results(cell), ["-50", "-51", "-53"])

    def test_an_error_has_the_node_the_epoch_and_the_lines_of_its_cell(self):
        self.run_ok('struct Mine : std::runtime_error { using std::runtime_error::runtime_error; };')
        number = self.run_ok('int fail(int x) {\n  if (x == 2)\n    throw std::invalid_argument("not two");\n  return x;\n}\nint own(int x) {\n  if (x == 1) throw Mine("one");\n  return x;\n}\n'
                             "struct Never {\n  Never() { throw std::logic_error(\"never\"); }\n  int process(int x) { return x; }\n};").reply["execution_count"]
        cell = self.run_error(simple("fail", "--runner cluster"))
        for part in ('"twice"', "fail", "epoch 2", "x=2", "not two"):
            self.assertIn(part, cell.reply["evalue"])
        text = plain(cell.reply["traceback"])
        self.assertIn(f"Cell [{number}], line 3, in fail", text)
        self.assertIn("caused by std::invalid_argument: not two", text)
        self.assertIn("failed", progress(cell)[-1])
        text = plain(self.run_error(simple("own", "--runner cluster")).reply["traceback"])
        self.assertIn(f"Cell [{number}], line 7, in own", text)
        self.assertIn("caused by Mine: one", text)
        text = plain(self.run_error(simple("Never", "--runner cluster")).reply["traceback"])
        self.assertIn(f"Cell [{number}], line 11", text)
        self.assertIn("never", text)
        self.assertEqual(self.children(), [])

    def test_a_crash_is_an_error_with_its_line(self):
        number = self.run_ok("int crash(int x) {\n  volatile int* p = nullptr;\n  if (x == 1) *p = 1;\n  return x;\n}\n").reply["execution_count"]
        cell = self.run_error(simple("crash", "--runner cluster"))
        self.assertIn('the node "twice"', cell.reply["evalue"])
        self.assertIn("SegmentationFault", plain(cell.reply["traceback"]))
        self.assertIn(f"Cell [{number}], line 3", plain(cell.reply["traceback"]))

    def test_what_does_not_compile_or_start_there_says_so_with_node_and_line(self):
        number = self.run_ok("int counted() {\n  static const char* fed = std::getenv(\"CALLER_FED\");\n  if (!fed) throw std::runtime_error(\"not fed\");\n  return 1;\n}").reply["execution_count"]
        self.run_ok("%env CALLER_FED=1")
        self.run_ok("int start = counted();\nint needs(int x) { return x + start; }")
        self.assertEqual(results(self.run_ok(simple("needs", "--runner cluster"))), ["1", "2", "3", "4"])
        self.run_ok("::unsetenv(\"CALLER_FED\");")
        cell = self.run_error(simple("needs", "--runner cluster"))
        self.assertIn('the node "twice" cannot run in a process of its own', cell.reply["evalue"])
        self.assertIn("not fed", cell.reply["evalue"])
        self.assertIn(f"Cell [{number}], line 3, in counted", plain(cell.reply["traceback"]))
        header = self.write("kernel_only.hpp", "#pragma once\ninline int secret() { return 3; }\n")
        number = self.run_ok(f'#include "{header}"\nint hidden(int x) {{\n  return x + secret();\n}}').reply["execution_count"]
        self.assertEqual(results(self.run_ok(simple("hidden", "--runner cluster"))), ["3", "4", "5", "6"])
        header.write_text("#pragma once\n")
        cell = self.run_error(simple("hidden", "--runner cluster"))
        self.assertIn('"twice"', cell.reply["evalue"])
        self.assertIn(f"Cell [{number}] does not compile there", cell.reply["evalue"])
        self.assertIn(f"Cell [{number}], line 3", plain(cell.reply["traceback"]))
        self.assertEqual(self.children(), [])

    def test_a_killed_process_is_reported_with_its_node_within_a_second(self):
        self.run_ok("caller::Generator<int> forever() { for (int i = 0;; ++i) co_yield i; }\nint spin(int x) { std::cout << \"going\" << std::endl; for (volatile int i = 0;; i = i + 1) {} }")
        before = self.folders()
        cell = self.begin("%%tube --runner cluster\nnoob_id: killed\nnodes:\n  f: {type: forever}\n  victim: {type: spin, depends: [f.value]}\n", "going")
        # The one that computes; the other waits for it.
        pid = max(self.children(), key=lambda c: int(pathlib.Path(f"/proc/{c[0]}/stat").read_text().rpartition(")")[2].split()[0] == "R"))[0]
        begin = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        cell.wait()
        self.assertLess(time.monotonic() - begin, 1)
        self.assertRegex(cell.reply["evalue"], r'the process of the node "(victim|f)" of the tube killed \(pid ' + str(pid))
        self.assertEqual(self.children(), [])
        self.assertEqual(self.folders(), before)

    def test_an_interrupt_ends_it_within_two_seconds_and_leaves_nothing(self):
        self.run_ok("caller::Generator<int> forever() { for (int i = 0;; ++i) co_yield i; }\nint quick(int x) { if (x == 100) std::cout << \"going\" << std::endl; return x; }\n"
                    "int spin(int x) { std::cout << \"going\" << std::endl; for (volatile int i = 0;; i = i + 1) {} }\nint sleeper(int x) { std::cout << \"going\" << std::endl; std::this_thread::sleep_for(1h); return x; }")
        before = self.folders()
        for node in ("quick", "spin", "sleeper"):
            with self.subTest(node=node):
                cell = self.begin(f"%%tube --runner cluster\nnoob_id: endless\nnodes:\n  f: {{type: forever}}\n  t: {{type: {node}, depends: [f.value]}}\n", "going")
                begin = time.monotonic()
                self.client.interrupt()
                cell.wait()
                self.assertLess(time.monotonic() - begin, 2)
                self.assertEqual(cell.reply["ename"], "Interrupted")
                self.assertIn("interrupted", progress(cell)[-1])
                self.assertEqual(self.children(), [])
                self.assertEqual(self.folders(), before)
        # Also while its process still compiles: here for as long as a variable takes to be made.
        self.run_ok("int wait_for_file() { if (std::getenv(\"CALLER_SLOW\")) { std::cout << \"going\" << std::endl; for (;;) ::pause(); } return 1; }\nint slow_start = wait_for_file();\nint late(int x) { return x + slow_start; }")
        self.run_ok("%env CALLER_SLOW=1")
        cell = self.begin(simple("late", "--runner cluster"), "going")
        begin = time.monotonic()
        self.client.interrupt()
        cell.wait()
        self.assertLess(time.monotonic() - begin, 2)
        self.assertEqual(self.children(), [])
        self.assertEqual(self.folders(), before)

    def test_a_killed_kernel_leaves_no_process_and_no_folder(self):
        self.run_ok("caller::Generator<int> forever() { for (int i = 0;; ++i) co_yield i; }\nint spin(int x) { std::cout << \"going\" << std::endl; for (volatile int i = 0;; i = i + 1) {} }")
        before = self.folders()
        self.begin("%%tube --runner cluster\nnoob_id: endless\nnodes:\n  f: {type: forever}\n  t: {type: spin, depends: [f.value]}\n", "going")
        pids = [pid for pid, _ in self.children()]
        self.assertEqual(len(pids), 2)
        os.kill(self.kernel.pid, signal.SIGKILL)
        self.assertIsNotNone(self.kernel.wait_for_exit())
        until = time.monotonic() + 20
        while time.monotonic() < until and (any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids) or self.folders() != before):
            time.sleep(0.02)
        self.assertFalse([pid for pid in pids if pathlib.Path(f"/proc/{pid}").exists()])
        self.assertEqual(self.folders(), before)

    def test_what_nodes_print_belongs_to_the_cell_and_its_lines_stay_whole(self):
        self.run_ok('#include <cstdio>\nint say(int x) { for (int i = 0; i < 50; ++i) std::cout << "from " << x << " line " << i << "\\n"; std::printf("print %d\\n", x); std::cerr << "err" << x << "\\n"; caller::display(1000 + x); std::cout << "end " << x; return x; }\n'
                    'int shout(int x) { for (int i = 0; i < 50; ++i) std::cout << "shout " << x << " line " << i << "\\n"; return x; }')
        cell = self.run_ok("%%tube --runner cluster\nnoob_id: talk\nnodes:\n  c: {type: noob.testing.count_source, params: {limit: 4}}\n  s: {type: say, depends: [c.index]}\n  t: {type: shout, depends: [c.index]}\n")
        text = cell.text()
        for x in range(4):
            for i in range(50):
                self.assertIn(f"from {x} line {i}\n", text)
                self.assertIn(f"shout {x} line {i}\n", text)
            self.assertIn(f"print {x}\n", text)
            self.assertIn(f"end {x}", text)
            self.assertIn(f"{1000 + x}\n", text)
            self.assertIn(f"err{x}", cell.text("stderr"))

    def test_many_epochs_are_at_work_at_once_and_progress_is_shown(self):
        # Two nodes of 10 ms each, 100 epochs: one after the other takes two seconds at least, overlapping half of it.
        self.run_ok("#include <chrono>\nlong now() { return std::chrono::steady_clock::now().time_since_epoch() / 1ms; }\n"
                    "std::vector<long> one(int x) { long b = now(); std::this_thread::sleep_for(10ms); return {b, now()}; }\n"
                    "std::vector<long> two(const std::vector<long>& first) { long b = now(); std::this_thread::sleep_for(10ms); return {first[0], first[1], b, now()}; }")
        cell = self.run_ok("%%tube --runner cluster -n 100\nnoob_id: piped\nnodes:\n  c: {type: noob.testing.count_source}\n  a: {type: one, depends: [c.index]}\n  b: {type: two, depends: [a.value]}\n  r: {type: return, depends: b.value}\n")
        times = [json.loads(r) for r in results(cell)[:10]]
        # The first node has begun the next epoch before the second node was through with this one.
        self.assertTrue(any(later[0] < earlier[3] for earlier, later in zip(times, times[1:])), times)
        texts = progress(cell)
        self.assertIn("100 of 100 results", texts[-1])
        self.assertGreater(len(texts), 4)

    def test_flags_and_libraries_of_the_session_are_there_too(self):
        include = self.folder / "headers"
        include.mkdir()
        (include / "theirs.hpp").write_text("#pragma once\n#include <cmath>\ninline double half(double x) { return FACTOR * x; }\n")
        self.run_ok(f"%include_path {include}")
        self.run_ok("%cxxflags -DFACTOR=0.5")
        self.run_ok('#include "theirs.hpp"\ndouble halved(double x) { return half(x); }')
        self.assertEqual(results(self.run_ok(simple("halved", "--runner cluster"))), ["0.0", "0.5", "1.0", "1.5"])
