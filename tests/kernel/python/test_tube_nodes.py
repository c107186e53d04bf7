"""%%tube: functions and classes of cells as nodes."""

from tube_support import RUNNERS, TubeCellTest, progress, results, simple


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
