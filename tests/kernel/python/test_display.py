"""What a cell can show: every kind of data, metadata, updates, tables, plots and bars, as messages of the real kernel."""

import base64
import xml.dom.minidom

import support
from support import KernelTest, parent_id

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


class Display(KernelTest):
    def shown(self, code):
        """The content of the one display_data or execute_result of a cell."""
        cell = self.run_ok(code)
        messages = cell.contents("display_data") + cell.contents("execute_result")
        self.assertEqual(len(messages), 1, messages)
        return messages[0]

    def test_every_kind_has_its_type_and_a_text(self):
        kinds = {
            'caller::html{"<b>x</b>"}': ("text/html", "<b>x</b>"),
            'caller::markdown{"*x*"}': ("text/markdown", "*x*"),
            'caller::latex{"$x$"}': ("text/latex", "$x$"),
            'caller::svg{"<svg/>"}': ("image/svg+xml", "<svg/>"),
            'caller::json{"{\\"a\\": [1, null]}"}': ("application/json", {"a": [1, None]}),
            'caller::vegalite{"{\\"mark\\": \\"bar\\"}"}': ("application/vnd.vegalite.v5+json", {"mark": "bar"}),
            'caller::mermaid{"graph LR; A-->B"}': ("text/vnd.mermaid", "graph LR; A-->B"),
            'caller::gif{"GIF89a"}': ("image/gif", base64.b64encode(b"GIF89a").decode()),
            'caller::jpeg{"\\xff\\xd8"}': ("image/jpeg", "/9g="),
        }
        for code, (mime_type, data) in kinds.items():
            for form in (code, f"caller::display({code});"):
                with self.subTest(code=form):
                    content = self.shown(form)
                    self.assertEqual(content["data"][mime_type], data)
                    self.assertTrue(content["data"]["text/plain"])
        self.assertEqual(self.shown('caller::mermaid{"A"}')["data"]["text/markdown"], "```mermaid\nA\n```")

    def test_pictures_of_files_have_their_bytes_and_size(self):
        path = support.HOME / "pixel.png"
        path.write_bytes(PIXEL)
        content = self.shown(f'caller::image("{path}", 40, 30)')
        self.assertEqual(base64.b64decode(content["data"]["image/png"]), PIXEL)
        self.assertEqual(content["metadata"], {"image/png": {"width": 40, "height": 30}})
        self.assertEqual(self.shown(f'caller::display(caller::image("{path}"));')["metadata"], {})
        error = self.run_error(f'caller::image("{path}.gone")').error
        self.assertIn("pixel.png.gone: No such file or directory", error["evalue"])

    def test_any_bundle_with_metadata_of_a_type_of_ones_own(self):
        self.run_ok(
            "struct Two {};\n"
            'caller::MimeBundle mime_bundle_repr(const Two&) { return {{"text/html", "<i>2</i>"}, {"text/plain", "2"}}; }\n'
            'caller::MimeBundle mime_metadata_repr(const Two&) { return {{"text/html", R"({"isolated": true})"}}; }'
        )
        for code in ("Two{}", "caller::display(Two{});"):
            content = self.shown(code)
            self.assertEqual(content["data"], {"text/html": "<i>2</i>", "text/plain": "2"})
            self.assertEqual(content["metadata"], {"text/html": {"isolated": True}})
        content = self.shown('caller::mime{{{"x/y", "z"}}, {{"x/y", "no object"}}}')
        self.assertEqual((content["data"], content["metadata"]), ({"x/y": "z", "text/plain": "<x/y>"}, {}))
        reply = self.run_ok("1;", user_expressions={"two": "Two{}"}).reply["user_expressions"]["two"]
        self.assertEqual(reply["metadata"], {"text/html": {"isolated": True}})

    def test_a_display_is_updated_from_another_cell(self):
        content = self.shown('caller::display(std::string("old"), "here");')
        self.assertEqual(content["transient"], {"display_id": "here"})
        cell = self.run_ok('caller::update_display(caller::html{"new"}, "here");')
        (update,) = cell.contents("update_display_data")
        self.assertEqual((update["data"]["text/html"], update["transient"]), ("new", {"display_id": "here"}))

    def test_output_is_cleared_at_once_or_with_the_next(self):
        cell = self.run_ok('std::cout << "a\\n"; caller::clear_output(); caller::clear_output(true); std::cout << "b\\n";')
        order = [m["content"].get("wait", m["content"].get("text")) for m in cell.iopub if m["msg_type"] in ("stream", "clear_output")]
        self.assertEqual(order, ["a\n", False, True, "b\n"])

    def test_a_table_of_a_struct_defined_in_a_cell(self):
        self.run_ok('struct Star { std::string name; double magnitude; int planets; };\nstd::vector<Star> stars{{"Sun", -26.74, 8}, {"Vega <α>", 0.03, 0}};')
        data = self.shown("caller::table(stars)")["data"]
        self.assertEqual(
            data["text/plain"],
            "   name      magnitude  planets\n─  ────────  ─────────  ───────\n"
            "0  Sun          -26.74        8\n1  Vega <α>       0.03        0\n2 rows × 3 columns",
        )
        page = xml.dom.minidom.parseString(f"<div>{data['text/html']}</div>")
        self.assertEqual([e.firstChild.data for e in page.getElementsByTagName("th") if e.firstChild][:3], ["name", "magnitude", "planets"])
        self.assertEqual([e.firstChild.data for e in page.getElementsByTagName("td")], ["Sun", "-26.74", "8", "Vega <α>", "0.03", "0"])
        chosen = self.shown('caller::table(stars, {{"star", &Star::name}, {"bright", [](auto& s) { return s.magnitude < 0; }}})')
        self.assertIn("0  Sun       true\n", chosen["data"]["text/plain"])
        view = self.shown("caller::table(stars | std::views::filter([](auto& s) { return s.planets > 0; }))")
        self.assertIn("1 row × 3 columns", view["data"]["text/plain"])

    def test_a_plot_is_a_picture_and_a_text(self):
        data = self.shown(
            "std::vector<double> x, y; for (int i = 0; i < 100; ++i) { x.push_back(i * 0.1); y.push_back(std::sin(x.back())); }\n"
            'caller::plot(x, y, "sin").scatter(x, y).title("A & B").x_label("t")'
        )["data"]
        self.assertEqual(xml.dom.minidom.parseString(data["image/svg+xml"]).documentElement.tagName, "svg")
        self.assertIn("A &amp; B", data["image/svg+xml"])
        self.assertIn("sin (line): 100 values", data["text/plain"])
        data = self.shown('caller::plot().bar(std::map<std::string, int>{{"a", 1}, {"b", 2}}).histogram(x)')["data"]
        self.assertIn("image/svg+xml", data)
        error = self.run_error("caller::plot(std::vector{1}, std::vector{1, 2})").error
        self.assertEqual((error["ename"], error["evalue"]), ("std::invalid_argument", "plot: there are 1 values of x and 2 of y"))


class Progress(KernelTest):
    def bar(self, cell):
        """The texts of a cell's bar, first to last; all are one display."""
        messages = [m for m in cell.iopub if m["msg_type"] in ("display_data", "update_display_data")]
        self.assertEqual(messages[0]["msg_type"], "display_data")
        self.assertEqual({m["msg_type"] for m in messages[1:]}, {"update_display_data"})
        self.assertEqual(len({m["content"]["transient"]["display_id"] for m in messages}), 1)
        for m in messages:
            self.assertIn("<progress", m["content"]["data"]["text/html"])
        return [m["content"]["data"]["text/plain"] for m in messages]

    def test_around_a_range_it_moves_and_ends(self):
        texts = self.bar(self.run_ok('for (int i : caller::progress(std::views::iota(0, 8), "work")) { std::this_thread::sleep_for(50ms); (void)i; }'))
        self.assertTrue(texts[0].startswith("work:   0%|") or texts[0].startswith("work: 0%|"), texts[0])
        self.assertIn("8/8", texts[-1])
        self.assertIn("100%", texts[-1])
        self.assertGreater(len(texts), 3)
        self.assertLess(len(texts), 12)
        self.assertTrue(any("<00:0" in text for text in texts[1:-1]), texts)  # the time it will still take

    def test_a_million_steps_are_few_messages(self):
        texts = self.bar(self.run_ok("caller::progress bar(1e6); for (int i = 0; i < 1'000'000; ++i) bar.step();"))
        self.assertLess(len(texts), 300)
        self.assertIn("1000000/1000000", texts[-1])  # the variable outlives the cell, the bar is at its end all the same
        self.bar(self.run_ok("std::vector<int> v(1000); for (auto& x : caller::progress(v)) x = 1;"))
        self.assertEqual(self.run_ok("v[999]").result, "1")

    def test_it_moves_while_a_task_and_threads_step_it(self):
        code = (
            "auto bar = std::make_unique<caller::progress<>>(40, \"all\");\n"
            "auto part = [] { for (int i = 0; i < 10; ++i) { std::this_thread::sleep_for(20ms); bar->step(); } };\n"
            "auto here = Caller::current();\n"
            "auto a = here.to_thread(part), b = here.to_thread(part);\n"
            "for (int i = 0; i < 20; ++i) { co_await caller::sleep_for(10ms); bar->step(); }\n"
            "co_await a; co_await b; bar.reset();"
        )
        cell = self.run_ok("// task\n" + code)
        texts = self.bar(cell)
        self.assertIn("40/40", texts[-1])
        self.assertTrue(all(parent_id(m) == cell.id for m in self.client.messages if m["msg_type"] == "update_display_data"))

    def test_a_bar_of_an_interrupted_cell_says_that_it_stopped(self):
        cell = self.client.execute("for (int i : caller::progress(std::views::iota(0, 1'000'000))) { (void)i; std::this_thread::sleep_for(20ms); }")
        self.client.wait(lambda m: m["msg_type"] == "update_display_data")
        self.client.interrupt()
        cell.wait()
        self.assertEqual(cell.reply["status"], "error")
        self.assertTrue(self.bar(cell)[-1].endswith(" stopped"))


class DeepJson(KernelTest):
    """What the kernel copies and writes level by level would end it when nested deep."""

    def test_json_of_a_cell_that_is_nested_deep_is_an_error_of_the_cell(self):
        self.run_ok("const std::string deep = std::string(200000, '[') + std::string(200000, ']');\n"
                    "const std::string fine = std::string(400, '[') + std::string(400, ']');\n"
                    "auto comm = caller::Comm(\"nowhere\"); caller::widgets::IntSlider slider;")
        for code in (
            "caller::json{deep}",
            "caller::display(caller::json{deep});",
            "caller::display(caller::vegalite{deep});",
            'caller::display(caller::mime{{{"text/plain", "x"}}, {{"text/plain", deep}}});',
            "comm.send(deep);",
            'slider.set("description", deep);',
        ):
            with self.subTest(code=code):
                cell = self.run_error(code)
                self.assertIn("nested deeper than 500 levels", cell.reply["evalue"])
        shown = self.run_ok("caller::display(caller::json{fine});").contents("display_data")[0]
        self.assertEqual(str(shown["data"]["application/json"]), "[" * 400 + "]" * 400)
        self.assert_usable()

    def test_a_notebook_that_is_nested_deep_is_not_run(self):
        path = support.HOME / "deep.ipynb"
        path.write_text('{"cells": ' + "[" * 200000 + "]" * 200000 + "}", encoding="utf-8")
        self.assertIn("nested deeper than 500 levels", self.run_error(f"%run {path}").reply["evalue"])
        self.assert_usable()
