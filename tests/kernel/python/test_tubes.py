"""%%tube: what it leaves in the session, runs, errors, displays, interrupts."""

import re
import time

from support import plain
from tube_support import RUNNERS, TubeCellTest, progress, results, simple


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
