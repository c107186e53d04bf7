"""%%tube: functions and classes of cells as nodes, runs, errors, displays."""

import json
import os
import pathlib
import re
import shutil
import signal
import tempfile
import time
import unittest

from magic_support import MagicTest
from support import PROGRAM, plain

RUNNERS = ("sync", "async", "thread")
SIMPLE = """noob_id: simple
nodes:
  count: {type: noob.testing.count_source, params: {limit: 4}}
  twice:
    type: TYPE
    depends: [{x: count.index}]
  result: {type: return, depends: twice.value}
"""


def simple(node_type, options="", ident="simple"):
    return "%%tube " + options + "\n" + SIMPLE.replace("TYPE", node_type).replace("simple", ident)


def results(cell):
    """What the tube returned, as it is shown: the earlier results and the cell's own."""
    earlier = [c["data"]["text/plain"] for c in cell.contents("display_data") if re.match(r"0: ", c["data"]["text/plain"])]
    lines = [line.partition(": ")[2] for line in earlier[0].splitlines()] if earlier else []
    return lines + ([cell.result] if cell.result is not None else [])


def progress(cell):
    """The texts of the progress display, the last one at the end."""
    shown = [m for m in cell.iopub if m["msg_type"] in ("display_data", "update_display_data")]
    return [m["content"]["data"]["text/plain"] for m in shown if m["content"]["transient"].get("display_id", "").startswith("caller-tube-")]


class TubeCellTest(MagicTest):
    def assert_spec_error(self, code, line, *parts):
        """The specification is refused: at that line of the cell, with the parts in its words."""
        cell = self.run_error(code)
        self.assertEqual(cell.reply["ename"], "SpecError", cell.reply)
        first = plain(cell.reply["traceback"][0])
        number = cell.reply["execution_count"]
        self.assertRegex(first, rf"^Cell \[{number}\], line {line}, column [0-9]+: ")
        self.assertIn(f"(line {line}, column ", cell.reply["evalue"])
        self.assertEqual(plain(cell.reply["traceback"][1]).strip(), code.splitlines()[line - 1].strip())
        for part in parts:
            self.assertIn(part, cell.reply["evalue"])
        return cell


class Nodes(TubeCellTest):
    """Functions and classes of earlier cells by their names."""

    def test_a_function_is_a_node_with_its_parameter_names_and_defaults(self):
        self.run_ok("double scale(double x, double by = 2 + 1, std::string unit = \"m\") { return x * by; }")
        self.assertEqual(results(self.run_ok(simple("scale"))), ["0.0", "3.0", "6.0", "9.0"])
        code = simple("scale").replace("type: scale", "type: scale\n    params: {by: 10}")
        self.assertEqual(results(self.run_ok(code)), ["0.0", "10.0", "20.0", "30.0"])
        code = simple("scale").replace("x: count", "y: count")
        self.assert_spec_error(code, 7, '"y"', "x")
        code = simple("scale").replace("type: scale", "type: scale\n    params: {bye: 10}")
        self.assert_spec_error(code, 7, '"bye"', "by")

    def test_a_typo_in_a_signal_or_a_type_is_refused_with_the_nearest_name(self):
        self.run_ok("int twice_of(int x) { return 2 * x; }")
        self.assert_spec_error(simple("twice_of").replace("twice.value", "twice.vlaue"), 8, '"vlaue"', 'did you mean "value"')
        self.assert_spec_error(simple("twiceof"), 6, 'unknown type "twiceof"', 'did you mean "twice_of"')
        self.assert_spec_error(simple("noob.testing.multipyl"), 6, "noob.testing.multiply")
        self.assertEqual(results(self.run_ok(simple("twice_of"))), ["0", "2", "4", "6"])

    def test_a_redefined_function_takes_effect_at_the_next_run(self):
        self.run_ok("int step(int x) { return x + 1; }")
        self.assertEqual(results(self.run_ok(simple("step"))), ["1", "2", "3", "4"])
        self.run_ok("double step(int x, double more = 0.5) { return x + more; }")
        self.assertEqual(results(self.run_ok(simple("step"))), ["0.5", "1.5", "2.5", "3.5"])
        self.run_ok("%reset -f")
        self.assert_spec_error(simple("step"), 6, 'unknown type "step"')

    def test_a_class_keeps_its_state_and_takes_params_by_its_constructor(self):
        self.run_ok(
            "struct Sum {\n  explicit Sum(int start, int step = 1) : total(start), step(step) {}\n"
            '  void init() { std::cout << "open "; }\n  void deinit() { std::cout << "close "; }\n'
            "  int process(int x) { return total += step * x; }\n  int total, step;\n};"
        )
        code = simple("Sum").replace("type: Sum", "type: Sum\n    params: {start: 100}")
        for runner in RUNNERS:
            cell = self.run_ok(code.replace("%%tube", "%%tube --runner " + runner))
            self.assertEqual(results(cell), ["100", "101", "103", "106"], runner)
            self.assertEqual(cell.text(), "open close ", runner)
        self.assert_spec_error(simple("Sum"), 6, 'needs the param "start"')

    def test_names_in_namespaces_are_nodes_written_with_colons_or_dots(self):
        self.run_ok("namespace mine { constexpr int kStep = 7; int add(int x, int by = kStep) { return x + by; }\n"
                    "struct Outer { struct Inner { int process(int x) const { return -x; } }; }; }")
        for name in ("mine::add", "mine.add", '"::mine::add"'):
            self.assertEqual(results(self.run_ok(simple(name))), ["7", "8", "9", "10"], name)
        self.assertEqual(results(self.run_ok(simple("mine::Outer::Inner"))), ["0", "-1", "-2", "-3"])

    def test_a_coroutine_function_is_a_node_and_overlaps_under_the_async_runner(self):
        self.run_ok("caller::Coro<int> slow(int x) { co_await caller::sleep_for(20ms); co_return x * 10; }")
        for runner in RUNNERS:
            self.assertEqual(results(self.run_ok(simple("slow", "--runner " + runner))), ["0", "10", "20", "30"], runner)
        self.run_ok(
            "std::atomic<int> at_once{0}, most{0};\n"
            "caller::Coro<int> nap(int x) { most = std::max(most.load(), ++at_once); co_await caller::sleep_for(50ms); --at_once; co_return x; }"
        )
        nodes = "".join(f"  n{i}: {{type: nap, depends: [c.index]}}\n" for i in range(5))
        self.run_ok("%%tube --runner async -n 2\nnoob_id: naps\nnodes:\n  c: {type: noob.testing.count_source}\n" + nodes)
        self.assertEqual(self.run_ok("most.load()").result, "5")

    def test_a_generator_and_a_class_with_next_are_sources_whose_end_ends_the_run(self):
        self.run_ok("caller::Generator<int> odd(int limit = 7) { for (int i = 1; i < limit; i += 2) co_yield i; }")
        self.run_ok("struct Down { explicit Down(int from) : n(from) {} std::optional<int> next() { if (n == 0) return {}; return n--; } int n; };")
        tube = "%%tube --runner {}\nnoob_id: source\nnodes:\n  s: {{type: {}, params: {}}}\n  r: {{type: return, depends: s.value}}\n"
        for runner in RUNNERS:
            cell = self.run_ok(tube.format(runner, "odd", "{}"))
            self.assertEqual(results(cell), ["1", "3", "5"])
            self.assertIn("a source has ended", progress(cell)[-1])
            self.assertEqual(results(self.run_ok(tube.format(runner, "Down", "{from: 3}"))), ["3", "2", "1"])
        self.assertEqual(results(self.run_ok(tube.format("sync", "odd", "{limit: 100}").replace("%%tube", "%%tube -n 2"))), ["1", "3"])

    def test_lambdas_injected_types_and_several_signals_are_understood(self):
        self.run_ok("int factor = 4; auto times = [](int x, int more = 1) { return x * factor + more; };")
        self.assertEqual(results(self.run_ok(simple("times"))), ["1", "5", "9", "13"])
        self.run_ok("#include <caller/tube/all.hpp>\nint at(const caller::tube::Epoch& e, int x) { return 100 * e.root() + x; }\n"
                    '[[clang::annotate("signals", "low", "high")]] std::tuple<int, int> split(int x) { return {x % 2, x / 2}; }')
        self.assertEqual(results(self.run_ok(simple("at"))), ["0", "101", "202", "303"])
        code = simple("split").replace("depends: twice.value", "depends: [twice.high, twice.low]")
        self.assertEqual(results(self.run_ok(code)), ["[0,0]", "[0,1]", "[1,0]", "[1,1]"])
        self.assert_spec_error(simple("split"), 8, '"value"', "low")

    def test_a_class_of_a_cell_is_an_asset_that_nodes_share(self):
        self.run_ok("struct Store { explicit Store(int from = 5) : n(from) {} int n; };\nint take(int x, Store& store) { return store.n += x; }")
        cell = self.run_ok(
            "%%tube\nnoob_id: with-asset\nassets:\n  store: {type: Store, scope: runner, params: {from: 50}}\nnodes:\n"
            "  c: {type: noob.testing.count_source, params: {limit: 3}}\n  t: {type: take, depends: [{x: c.index}, {store: assets.store}]}\n"
            "  r: {type: return, depends: t.value}\n"
        )
        self.assertEqual(results(cell), ["50", "51", "53"])

    def test_what_can_be_no_node_is_refused_at_its_line_with_the_reason(self):
        self.run_ok("int over(int x) { return x; }\ndouble over(double x) { return x; }\ntemplate <class T> T same(T x) { return x; }")
        self.run_ok("class Hidden { int process(int x) { return x; } };\nclass Closed { Closed() {} public: int process(int x) { return x; } };\n"
                    "struct Two { Two() {} Two(int) {} int process(int x) { return x; } };\nstruct None { int x; };\n"
                    "struct Pure { virtual int process(int x) = 0; };\nstruct Both { int process(int x) { return x; } int process(double x) { return x; } };")
        self.run_ok("int unnamed(int) { return 1; }\nint many(int x, ...) { return x; }\nint number = 3;\nint refuses(std::string&& x) { return 1; }\n"
                    "template <class T> struct Shape { T process(T x) { return x; } };\nenum class Colour { red };\nstruct Later;\n"
                    "struct Still { static int process(int x) { return x; } };")
        for name, reason in {
            "over": "is overloaded", "same": "is a template", "Hidden": "process() of the class \"Hidden\"", "Closed": "has no public constructor",
            "Two": "has several constructors", "None": "has neither process() nor next()", "Pure": "is abstract", "Both": "is overloaded",
            "unnamed": "parameter 1 has no name", "many": "any number of arguments", "number": "is a variable of type int",
            "refuses": "values are shared between nodes", "Shape": "a class template", "Colour": "an enumeration",
            "Later": "defined nowhere", "Still": "is static",
        }.items():  # fmt: skip
            with self.subTest(node=name):
                self.assert_spec_error(simple(name), 6, f'"{name}"', reason)
        self.assert_usable()

    def test_a_node_registered_by_hand_in_a_cell_is_left_alone(self):
        self.run_ok('#include <caller/tube/all.hpp>\ncaller::tube::registry().add("by_hand", [](int x) { return x + 1000; }, {"x"});')
        self.assertEqual(results(self.run_ok(simple("by_hand"))), ["1000", "1001", "1002", "1003"])


class Session(TubeCellTest):
    """What a tube leaves in the session."""

    def test_the_tube_is_an_object_of_the_session_afterwards(self):
        self.run_ok("int twice_of(int x) { return 2 * x; }")
        self.run_ok(simple("twice_of", ident="my-id"))
        self.assertEqual(self.run_ok("caller::tube::SynchronousRunner r(tubes::my_id); int sum = 0; for (auto& x : r.run(4)) sum += x.to<int>(); sum").result, "12")
        self.run_ok("int twice_of(int x) { return 3 * x; }")
        self.run_ok(simple("twice_of", "--runner thread", ident="my-id"))
        self.assertEqual(self.run_ok("{ caller::tube::AsyncRunner r(tubes::my_id); sum = 0; for (auto& x : r.run(4)) sum += x.to<int>(); } sum").result, "18")
        self.run_ok(simple("twice_of", "--name 3/for", ident="my-id"))
        self.assertEqual(self.run_ok("tubes::_3_for.id()").result, '"3/for"')
        self.run_ok("%reset -f")
        self.run_ok("int twice_of(int x) { return x; }")
        self.run_ok(simple("twice_of", ident="my-id"))
        self.assertEqual(self.run_ok("tubes::my_id.nodes().size()").result, "3")

    def test_later_cells_extend_it_and_use_it_as_a_node(self):
        self.run_ok("int twice_of(int x) { return 2 * x; }\nint minus(int x) { return -x; }")
        self.run_ok("%%tube --input x=1\nnoob_id: inner\ninput:\n  x: {type: int, scope: process}\nnodes:\n  t: {type: twice_of, depends: [input.x]}\n"
                    "  r: {type: return, depends: [{y: t.value}]}\n")
        outer = ("%%tube\nnoob_id: outer\nnodes:\n  c: {type: noob.testing.count_source, params: {limit: 3}}\n"
                 "  i: {type: tube, params: {tube: inner}, depends: [{x: c.index}]}\n  r: {type: return, depends: i.y}\n")
        self.assertEqual(results(self.run_ok(outer)), ["0", "2", "4"])
        self.assertEqual(results(self.run_ok("%%tube\nnoob_id: more\nextends: outer\nnodes:\n  m: {type: minus, depends: [i.y]}\n"
                                             "  r: {type: return, depends: m.value}\n")), ["0", "-2", "-4"])  # fmt: skip
        # The node inside is looked up anew, too.
        self.run_ok("int twice_of(int x) { return 20 * x; }")
        self.assertEqual(results(self.run_ok(outer)), ["0", "20", "40"])

    def test_a_mistake_in_the_tube_of_an_earlier_cell_points_there(self):
        self.run_ok("int twice_of(int x) { return 2 * x; }")
        first = self.run_ok(simple("twice_of", ident="base"))
        self.run_ok("%reset -f")
        cell = self.run_error("%%tube\nnoob_id: more\nextends: base\nnodes:\n  other: {type: noob.testing.exclaim, depends: [twice.value]}\n")
        place = f"Cell [{first.reply['execution_count']}], line 6, column 11"
        self.assertIn(place, plain(cell.reply["traceback"][0]))
        self.assertIn(place, cell.reply["evalue"])

    def test_inputs_are_read_as_yaml_or_json(self):
        self.run_ok("#include <caller/tube/all.hpp>\nstd::string show(caller::tube::Value v) { return std::string(caller::tube::kind_name(v.kind())); }")
        tube = "%%tube --input v={}\nnoob_id: typed\ninput:\n  v: {{type: any}}\nnodes:\n  s: {{type: show, depends: [input.v]}}\n  r: {{type: return, depends: s.value}}\n"
        kinds = {"3": "integer", "1.5": "real", "true": "boolean", "True": "boolean", "word": "text", "'\"3\"'": "text", "'[1, 2]'": "list",
                 "'{\"a\": 1}'": "map", "'a: b'": "text", "'two words'": "text", "-5": "integer", "1e3": "real"}  # fmt: skip
        seen = {text: self.run_ok(tube.format(text)).result for text in kinds}
        for text, kind in kinds.items():
            with self.subTest(input=text):
                self.assertIn(kind[:3], seen[text])
        each = "%%tube -n 3 --input x=5\nnoob_id: each\ninput:\n  x: {type: int, scope: process}\nnodes:\n  m: {type: noob.testing.multiply, depends: [{left: input.x}]}\n  r: {type: return, depends: m.value}\n"
        for runner in RUNNERS:
            self.assertEqual(len(results(self.run_ok(each.replace("-n", f"--runner {runner} -n")))), 3)
        self.assert_usage(each.replace("x=5", "y=5"), "--input y", "it has x")
        self.assert_usage(each.replace(" --input x=5", ""), 'needs the input "x"')

    def test_wrong_options_are_errors_that_say_so(self):
        for options, part in {
            "--foo": "no option --foo", "-n": "-n needs", "-n three": '"three"', "-n -1": '"-1"', "--runner quick": '"quick"', "--input x": "name=value",
            "--plot=yes": "takes no value", "word": '"word"', "--plugin /no/such.so": "/no/such.so", "--name 'open": "quote",
        }.items():  # fmt: skip
            with self.subTest(options=options):
                cell = self.run_error(simple("noob.testing.exclaim", options))
                self.assertIn(part, cell.reply["evalue"])
        self.assert_usage("%%tube\n", "specification")
        self.assertIn("%%tube", self.run_ok("%lsmagic").text())
        self.assertIn("--runner", self.run_ok("%%tube?").reply["payload"][0]["data"]["text/plain"])
        self.assert_spec_error("%%tube\nnoob_id: x\nnodse: {}\n", 3, 'nodse: unknown key; did you mean "nodes"')
        self.assert_spec_error("// a comment\n\n%%tube\nnoob_id: x\nnodes:\n  a: {type: ]\n", 6, "")


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
            for pid in (task / "children").read_text().split():
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


class Runs(TubeCellTest):
    def test_what_a_node_prints_and_shows_belongs_to_its_cell(self):
        self.run_ok('#include <cstdio>\nint say(int x) { std::cout << ("out" + std::to_string(x) + "\\n"); std::printf("print%d\\n", x); caller::display(x); return x; }')
        for runner in RUNNERS:
            cell = self.run_ok(simple("say", "--runner " + runner))
            for x in range(4):
                self.assertIn(f"out{x}", cell.text())
                self.assertIn(f"print{x}", cell.text())
            shown = [c["data"]["text/plain"] for c in cell.contents("display_data")]
            for x in range(4):
                self.assertIn(str(x), shown)

    def test_lines_of_nodes_at_work_at_once_stay_whole(self):
        self.run_ok('#include <cstdio>\nint say(int x) { for (int i = 0; i < 100; ++i) { std::cout << "x" << x << " line " << i << "\\n"; if (i % 10 == 0) std::printf("p%d %d\\n", x, i); } std::cout << "last " << x; return x; }')
        nodes = "".join(f"  s{i}: {{type: say, depends: [c.index]}}\n" for i in range(4))
        for runner in ("async", "thread"):
            cell = self.run_ok(f"%%tube --runner {runner}\nnoob_id: talk\nnodes:\n  c: {{type: noob.testing.count_source, params: {{limit: 5}}}}\n" + nodes)
            text = cell.text()
            whole = re.findall(r"(?:^|\n|last [0-4])(?=((?:x[0-4] line [0-9]+|p[0-4] [0-9]+)\n))", text)
            self.assertEqual(len(whole), 5 * 4 * 110, runner)
            for x in range(5):
                self.assertEqual(len(re.findall(rf"last {x}", text)), 4, runner)
                self.assertEqual(text.count(f"x{x} line 99\n"), 4)

    def test_a_flush_is_not_held_back_and_the_order_of_one_node_stays(self):
        self.run_ok('#include <cstdio>\n#include <atomic>\nstd::atomic<bool> go{false};\nint say(int x) { std::cout << "a" << 1; std::printf("b"); std::cout << "c"; std::cerr << "E"; std::cout << "d"; caller::display(7); std::cout << "flushed" << std::flush; '
                    "while (!go) std::this_thread::sleep_for(5ms); std::cout << \" rest\"; return x; }")
        cell = self.client.execute(simple("say", "--runner thread -n 1"))
        self.client.wait(lambda m, id=cell.id: (m.get("parent_header") or {}).get("msg_id") == id and "flushed" in str(m["content"]), 60)
        self.assertNotIn("rest", cell.text())
        self.run_ok("// thread\ngo = true;")
        cell.wait()
        self.assertTrue(cell.text().startswith("a1bcdflushed rest"), cell.text())
        kinds = [(m["msg_type"], m["content"].get("text", "")) for m in cell.iopub if m["msg_type"] in ("stream", "display_data")]
        shown = next(i for i, (kind, _) in enumerate(kinds) if kind == "display_data" and i > 0 and kinds[i - 1][0] == "stream")
        self.assertTrue("".join(text for kind, text in kinds[:shown]).endswith("d"), kinds)

    def test_an_error_of_a_node_names_node_epoch_inputs_and_the_lines_of_its_cell(self):
        number = self.run_ok('int fail(int x) {\n  if (x == 2)\n    throw std::invalid_argument("not two");\n  return x;\n}').reply["execution_count"]
        for runner in RUNNERS:
            cell = self.run_error(simple("fail", "--runner " + runner))
            for part in ('"twice"', "fail", "epoch 2", "x=2", "not two"):
                self.assertIn(part, cell.reply["evalue"], runner)
            text = plain(cell.reply["traceback"])
            self.assertIn(f"Cell [{number}], line 3, in fail", text, runner)
            self.assertIn("caused by std::invalid_argument: not two", text, runner)
            self.assertIn("failed", progress(cell)[-1])
        self.assert_usable()

    def test_a_node_that_crashes_ends_the_run_and_not_the_session(self):
        number = self.run_ok("int crash(int x) {\n  volatile int* p = nullptr;\n  if (x == 1) *p = 1;\n  return x;\n}").reply["execution_count"]
        self.run_ok("caller::Coro<int> crash_later(int x) {\n  co_await caller::sleep_for(1ms);\n  co_return crash(x);\n}")
        for node in ("crash", "crash_later"):
            for runner in RUNNERS:
                cell = self.run_error(simple(node, "--runner " + runner))
                self.assertIn('the node "twice"', cell.reply["evalue"])
                self.assertIn("SegmentationFault", plain(cell.reply["traceback"]), runner)
                self.assertIn(f"Cell [{number}], line 3", plain(cell.reply["traceback"]), runner)
                self.assert_usable()

    def test_two_tubes_in_task_cells_run_at_once(self):
        self.run_ok("caller::Coro<int> nap(int x) { co_await caller::sleep_for(100ms); co_return x; }")
        one = self.client.execute("// task\n" + simple("nap", "--runner async -n 4", "one"))
        two = self.client.execute("// task\n" + simple("nap", "--runner async -n 4", "two"))
        for cell in (one, two):
            cell.wait()
            self.assertEqual(results(cell), ["0", "1", "2", "3"])
        first = {name: cell.wait_started().client.of(cell.id, "iopub") for name, cell in (("one", one), ("two", two))}
        begin = {name: messages[0]["arrived"] for name, messages in first.items()}
        end = {name: messages[-1]["arrived"] for name, messages in first.items()}
        self.assertLess(max(begin.values()), min(end.values()))

    def test_a_tube_runs_on_a_thread_and_on_a_subshell_and_within_its_timeout(self):
        self.run_ok("int twice_of(int x) { return 2 * x; }")
        self.assertEqual(results(self.run_ok("// thread\n" + simple("twice_of"))), ["0", "2", "4", "6"])
        shell = self.client.request("control", "create_subshell_request")["subshell_id"]
        self.assertEqual(results(self.run_ok(simple("twice_of"), subshell=shell)), ["0", "2", "4", "6"])
        self.run_ok("caller::Generator<int> forever() { for (int i = 0;; ++i) co_yield i; }")
        endless = "%%tube --runner RUNNER\nnoob_id: endless\nnodes:\n  f: {type: forever}\n  t: {type: twice_of, depends: [f.value]}\n"
        for runner in RUNNERS:
            cell = self.run_error(endless.replace("RUNNER", runner), metadata={"tags": ["timeout=0.3"]})
            self.assertEqual(cell.reply["ename"], "TimedOut", runner)
        self.assert_usable()

    def test_the_graph_is_shown_as_svg(self):
        self.run_ok("int twice_of(int x) { return 2 * x; }")
        cell = self.run_ok(simple("twice_of", "--plot"))
        pictures = [c["data"]["image/svg+xml"] for c in cell.contents("display_data") if "image/svg+xml" in c["data"]]
        self.assertEqual(len(pictures), 1)
        self.assertTrue(pictures[0].startswith("<svg"))
        for name in ("count", "twice_of", "result"):
            self.assertIn(name, pictures[0])

    def test_without_graphviz_the_cell_says_what_is_missing_and_runs(self):
        self.run_ok("int twice_of(int x) { return 2 * x; }")
        self.run_ok("%env PATH=/nowhere")
        cell = self.run_ok(simple("twice_of", "--plot"))
        self.assertIn("install the package graphviz", cell.text("stderr"))
        self.assertEqual(results(cell), ["0", "2", "4", "6"])

    def test_ten_thousand_epochs_send_a_bounded_number_of_messages(self):
        self.run_ok("int twice_of(int x) { return 2 * x; }")
        for runner in RUNNERS:
            begin = time.monotonic()
            cell = self.run_ok(simple("twice_of", "--runner " + runner).replace("limit: 4", "limit: 10000"))
            seconds = time.monotonic() - begin
            texts = progress(cell)
            self.assertLessEqual(len(texts), 2 + 10 * seconds + 1, runner)
            self.assertGreaterEqual(len(texts), 2)
            self.assertIn("running", texts[0])
            self.assertIn("done", texts[-1])
            self.assertIn("10\u2009000 epochs", texts[-1])
            self.assertIn("twice 10\u2009000", texts[-1])
            self.assertEqual(cell.result, "19998")
            self.assertLess(len(cell.iopub), len(texts) + 10)

    def test_memory_levels_off_over_many_tubes(self):
        self.run_ok("int twice_of(int x) { return 2 * x; }")

        def rss():
            with open(f"/proc/{self.kernel.pid}/status", encoding="ascii") as status:
                return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))

        def run(times):
            for i in range(times):
                self.run_ok(simple("twice_of", "--runner " + RUNNERS[i % 3]))

        run(60)
        before = rss()
        run(200)
        self.assertLess(rss() - before, 8 * 1024)


class Interrupts(TubeCellTest):
    """An endless tube ends within a second of an interrupt, whatever its nodes do."""

    def endless(self, node, declaration):
        self.run_ok("caller::Generator<int> forever() { for (int i = 0;; ++i) co_yield i; }\nstd::atomic<int> alive{0};")
        self.run_ok(declaration)
        for runner in RUNNERS:
            with self.subTest(runner=runner):
                cell = self.client.execute(f"%%tube --runner {runner}\nnoob_id: endless\nnodes:\n  f: {{type: forever}}\n  t: {{type: {node}, depends: [f.value]}}\n")
                self.client.wait(lambda m, id=cell.id: (m.get("parent_header") or {}).get("msg_id") == id and m["msg_type"] == "stream", 60)
                begin = time.monotonic()
                self.client.interrupt()
                cell.wait(20)
                self.assertLess(time.monotonic() - begin, 1.0)
                self.assertEqual(cell.reply["ename"], "Interrupted")
                self.assertIn("interrupted", progress(cell)[-1])
                self.assertEqual(self.run_ok("20 + 22").result, "42")

    def test_quick_nodes(self):
        self.endless("quick", 'int quick(int x) { if (x == 100) std::cout << "going" << std::endl; return x; }')

    def test_a_node_that_computes_for_ever(self):
        self.endless("spin", 'int spin(int x) { std::cout << "going" << std::endl; for (volatile int i = 0;; i = i + 1) {} }')

    def test_a_node_that_sleeps(self):
        self.endless("sleeper", 'int sleeper(int x) { std::cout << "going" << std::endl; std::this_thread::sleep_for(1h); return x; }')

    def test_a_coroutine_node_that_computes_for_ever(self):
        self.endless("busy", 'caller::Coro<int> busy(int x) { std::cout << "going" << std::endl; for (volatile int i = 0;; i = i + 1) {} co_return x; }')

    def test_a_node_that_waits_for_another_thread(self):
        self.endless("stuck", 'std::mutex m; std::condition_variable cv; int stuck(int x) { std::cout << "going" << std::endl; std::unique_lock lock(m); cv.wait(lock); return x; }')

    def test_a_coroutine_node_that_waits(self):
        self.endless("waiter", 'caller::Coro<int> waiter(int x) { std::cout << "going" << std::endl; co_await caller::sleep_for(1h); co_return x; }')


if __name__ == "__main__":
    unittest.main()
