"""Widgets of cells over the jupyter.widget protocol, as pages with ipywidgets 7 and 8, and with 6, speak it."""

import uuid

from support import KernelTest, parent_id

VIEW = "application/vnd.jupyter.widget-view+json"


class Page:
    """What a page knows of the widgets of a kernel, by their comms."""

    def __init__(self, test):
        self.test = test
        self.client = test.client

    def opened(self, cell):
        """The widgets a cell opened: {model name: comm id}, and their states by comm id."""
        names, states = {}, {}
        for message in self.client.of(cell.id, "iopub", "comm_open"):
            content = message["content"]
            self.test.assertEqual(content["target_name"], "jupyter.widget")
            self.test.assertEqual(message["metadata"]["version"].split(".")[0], "2")
            state = content["data"]["state"]
            names[state["_model_name"]] = content["comm_id"]
            states[content["comm_id"]] = state
        return names, states

    def send(self, comm_id, data):
        msg_id = self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": data})
        self.client.idle(msg_id)
        return msg_id

    def set(self, comm_id, **state):
        return self.send(comm_id, {"method": "update", "state": state, "buffer_paths": []})

    def event(self, comm_id, event):
        return self.send(comm_id, {"method": "custom", "content": {"event": event}})

    def sent(self, msg_id, method="update"):
        """The states that a request made the kernel send, in order."""
        data = [m["content"]["data"] for m in self.client.of(msg_id, "iopub", "comm_msg")]
        return [d["state"] for d in data if d["method"] == method]

    def text(self, msg_id, name="stdout"):
        return "".join(m["content"]["text"] for m in self.client.of(msg_id, "iopub", "stream") if m["content"]["name"] == name)


class Widgets(KernelTest):
    def setUp(self):
        super().setUp()
        self.page = Page(self)

    def test_a_slider_is_opened_shown_moved_and_set(self):
        cell = self.run_ok(
            'caller::widgets::IntSlider slider({.value = 3, .max = 10, .description = "n"});\n'
            'slider.on_change([](long long n) { std::cout << "now " << n; }); slider'
        )
        names, states = self.page.opened(cell)
        state = states[names["IntSliderModel"]]
        self.assertEqual(state["layout"], "IPY_MODEL_" + names["LayoutModel"])
        self.assertEqual(state["style"], "IPY_MODEL_" + names["SliderStyleModel"])
        expected = {"value": 3, "min": 0, "max": 10, "step": 1, "description": "n", "_view_name": "IntSliderView",
                    "_model_module": "@jupyter-widgets/controls", "_view_module": "@jupyter-widgets/controls"}  # fmt: skip
        self.assertEqual({name: state[name] for name in expected}, expected)
        self.assertEqual(states[names["LayoutModel"]]["_model_module"], "@jupyter-widgets/base")
        (shown,) = cell.contents("display_data")
        self.assertEqual(shown["data"][VIEW], {"version_major": 2, "version_minor": 0, "model_id": names["IntSliderModel"]})
        self.assertEqual(shown["data"]["text/plain"], 'IntSlider(value=3, min=0, max=10, description="n")')
        self.assertEqual(cell.contents("execute_result"), [])

        moved = self.page.set(names["IntSliderModel"], value=7)
        self.assertEqual(self.page.text(moved), "now 7")
        self.assertEqual(self.page.sent(moved, "echo_update"), [{"value": 7}])
        self.assertEqual(self.page.sent(moved), [])
        self.assertEqual(self.run_ok("slider.value()").result, "7")

        cell = self.run_ok("slider.set_value(9);")
        self.assertEqual((self.page.sent(cell.id), cell.text()), ([{"value": 9}], "now 9"))
        cell = self.run_ok("slider.set_value(9);")
        self.assertEqual((self.page.sent(cell.id), cell.text()), ([], ""))
        self.assertEqual(self.page.sent(self.run_ok("slider.set_value(99);").id), [{"value": 10}])
        self.assertEqual(self.page.sent(self.run_ok('slider.set("max", "5");').id), [{"max": 5, "value": 5}])

    def test_a_page_cannot_set_what_the_control_is_not(self):
        names, _ = self.page.opened(self.run_ok("caller::widgets::FloatSlider f({.max = 2}); caller::widgets::Checkbox c;"))
        moved = self.page.set(names["FloatSliderModel"], value=50)
        self.assertEqual(self.page.sent(moved), [{"value": 2.0}])
        self.assertEqual(self.page.sent(self.page.set(names["FloatSliderModel"], value="x")), [{"value": 2.0}])
        self.assertEqual(self.page.sent(self.page.set(names["CheckboxModel"], value=1)), [{"value": False}])
        self.page.set(names["CheckboxModel"], _model_name="Evil", layout="IPY_MODEL_x", unknown=5)
        for data in ([], "x", {}, {"method": 5}, {"method": "update"}, {"method": "update", "state": 5}, {"method": "custom"}, None):
            self.page.send(names["CheckboxModel"], data)
        self.assertEqual(self.run_ok("f.value() + c.value()").result, "2.0")
        state = self.page.sent(self.page.send(names["CheckboxModel"], {"method": "request_state"}))[0]
        self.assertEqual((state["_model_name"], state["value"], "unknown" in state), ("CheckboxModel", False, False))

    def test_changes_and_clicks_can_be_awaited_while_the_page_is_used(self):
        cell = self.run_ok('caller::widgets::IntSlider s; caller::widgets::Button b({.description = "go"}); b.on_click([] { std::cout << "clicked"; });')
        names, _ = self.page.opened(cell)
        cell = self.client.execute(
            'auto change = s.changed(); auto click = b.clicked(); std::cout << "ready " << std::flush;\n'
            'auto n = co_await change; std::cout << "got " << n << std::flush; co_await click; std::cout << " end";'
        ).wait_text("ready")
        self.page.set(names["IntSliderModel"], value=42)
        cell.wait_text("got 42")
        clicked = self.page.event(names["ButtonModel"], "click")
        cell.wait()
        self.assertEqual((cell.text(), self.page.text(clicked)), ("ready got 42 end", "clicked"))
        self.assertEqual(cell.reply["status"], "ok")
        cell = self.client.execute('change = s.changed(); std::cout << "ready" << std::flush; co_await change;').wait_text("ready")
        self.run_ok("// task\ns.close();")
        self.assertEqual(cell.wait().reply["status"], "error")

    def test_texts_choices_bars_and_boxes(self):
        cell = self.run_ok(
            "using namespace caller::widgets;\n"
            'Text text({.value = "ä", .placeholder = "name"}); text.on_submit([](const std::string& t) { std::cout << "submitted " << t; });\n'
            'Dropdown choice({.options = {"red", "green", "blue"}, .value = "green"}); IntProgress bar({.max = 3});\n'
            'Label label("l"); HTML html("<b>h</b>"); HBox row({text, choice}); VBox all({row, bar, label, html}); all'
        )
        names, states = self.page.opened(cell)
        self.assertEqual(states[names["VBoxModel"]]["children"], ["IPY_MODEL_" + names[n] for n in ("HBoxModel", "IntProgressModel", "LabelModel", "HTMLModel")])
        self.assertEqual(states[names["TextModel"]]["value"], "ä")
        choice = states[names["DropdownModel"]]
        self.assertEqual((choice["_options_labels"], choice["index"]), (["red", "green", "blue"], 1))
        self.page.set(names["TextModel"], value="new <text>")
        self.assertEqual(self.page.text(self.page.event(names["TextModel"], "submit")), "submitted new <text>")
        self.page.set(names["DropdownModel"], index=2)
        self.assertEqual(self.run_ok("choice.value()").result, '"blue"')
        self.assertEqual(self.page.sent(self.run_ok('choice.set_value("red");').id), [{"index": 0, "value": "red"}])
        error = self.run_error('choice.set_value("pink");').error
        self.assertEqual((error["ename"], error["evalue"]), ("std::invalid_argument", 'Dropdown: value cannot be "pink"'))
        self.assertEqual(self.page.sent(self.page.set(names["DropdownModel"], index=7))[0], {"index": 0})
        self.assertEqual(self.page.sent(self.run_ok('bar.set_value(2); bar.set("bar_style", R"("success")");').id), [{"value": 2}, {"bar_style": "success"}])
        self.assertEqual(self.page.sent(self.run_ok("row.children({choice});").id), [{"children": ["IPY_MODEL_" + names["DropdownModel"]]}])
        layout = self.run_ok('row.layout("width", "50%");')
        (message,) = self.client.of(layout.id, "iopub", "comm_msg")
        self.assertEqual("IPY_MODEL_" + message["content"]["comm_id"], states[names["HBoxModel"]]["layout"])
        self.assertEqual(message["content"]["data"]["state"], {"width": "50%"})

    def test_a_click_that_faults_is_answered_and_the_next_one_is_served(self):
        cell = self.run_ok('int clicks = 0; caller::widgets::Button b; b.on_click([] { if (++clicks % 2) *(volatile int*)nullptr = 1; std::cout << "clicked"; });')
        names, _ = self.page.opened(cell)
        for _ in range(3):
            self.assertIn("SegmentationFault", self.page.text(self.page.event(names["ButtonModel"], "click"), "stderr"))
            self.assertEqual(self.page.text(self.page.event(names["ButtonModel"], "click")), "clicked")
        self.assert_usable()

    def test_output_is_captured_for_as_long_as_it_is_asked_for(self):
        cell = self.run_ok('caller::widgets::Output out; caller::widgets::Button b; b.on_click([] { auto here = out.capture(); std::cout << "in"; }); out')
        names, _ = self.page.opened(cell)
        cell = self.run_ok('std::cout << "before\\n"; { auto here = out.capture(); std::printf("inside\\n"); } std::cout << "after\\n";')
        order = []
        for m in cell.iopub:
            if m["msg_type"] == "stream":
                order.append(m["content"]["text"])
            elif m["msg_type"] == "comm_msg":
                order.append(m["content"]["data"]["state"])
        self.assertEqual(order, ["before\n", {"msg_id": cell.id}, "inside\n", {"msg_id": ""}, "after\n"])
        clicked = self.page.event(names["ButtonModel"], "click")
        self.assertEqual(self.page.sent(clicked), [{"msg_id": clicked}, {"msg_id": ""}])

    def test_a_page_that_is_loaded_again_finds_all_widgets(self):
        cell = self.run_ok("caller::widgets::IntSlider s({.value = 1}); caller::widgets::Checkbox gone; gone.close(); s.set_value(5);")
        names, states = self.page.opened(cell)
        comm_id = uuid.uuid4().hex
        msg_id = self.client.send("shell", "comm_open", {"comm_id": comm_id, "target_name": "jupyter.widget.control", "data": {}}, metadata={"version": "1.0.0"})
        self.client.idle(msg_id)
        msg_id = self.page.send(comm_id, {"method": "request_states"})
        (message,) = self.client.of(msg_id, "iopub", "comm_msg")
        data = message["content"]["data"]
        self.assertEqual((message["content"]["comm_id"], data["method"], data["buffer_paths"]), (comm_id, "update_states", []))
        slider = data["states"][names["IntSliderModel"]]
        self.assertEqual((slider["model_name"], slider["model_module"]), ("IntSliderModel", "@jupyter-widgets/controls"))
        self.assertEqual(slider["state"], {**states[names["IntSliderModel"]], "value": 5})
        self.assertEqual({s["model_name"] for s in data["states"].values()}, {"IntSliderModel", "LayoutModel", "SliderStyleModel"})

    def test_closing_works_from_both_sides(self):
        cell = self.run_ok("caller::widgets::IntSlider a, b; int changes = 0; a.on_change([](long long) { ++changes; });")
        opened = [m["content"]["comm_id"] for m in self.client.of(cell.id, "iopub", "comm_open")]
        cell = self.run_ok("a.close(); a.close();")
        closed = [c["comm_id"] for c in cell.contents("comm_close")]
        self.assertEqual(len(closed), 3)  # slider, layout, style
        other = next(i for i in opened if i not in closed and self.is_slider(i))
        self.client.idle(self.client.send("shell", "comm_close", {"comm_id": other, "data": {}}))
        self.assertEqual(self.run_ok("a.is_open() || b.is_open()").result, "false")
        self.assertEqual(self.run_ok("a.set_value(3); a.value() + changes").result, "4")
        self.assertEqual(self.client.request("shell", "comm_info_request")["comms"], {})

    def is_slider(self, comm_id):
        state = next(m["content"]["data"]["state"] for m in self.client.messages if m["msg_type"] == "comm_open" and m["content"]["comm_id"] == comm_id)
        return state["_model_name"] == "IntSliderModel"

    def test_options_that_make_no_sense_are_named(self):
        for code, text in (
            ("IntSlider({.min = 5, .max = 1})", "IntSlider: min is above max"),
            ("FloatSlider({.step = 0})", "FloatSlider: the step is not positive"),
            ("FloatSlider({.max = std::nan(\"\")})", "FloatSlider: a setting is no number"),
            ('Dropdown({.options = {"a"}, .value = "b"})', "Dropdown: b is none of the options"),
            ('IntSlider().set("value", "{")', "widget: the value of value is no JSON: {"),
        ):
            error = self.run_error("caller::widgets::" + code + ";").error
            self.assertEqual((error["ename"], error["evalue"]), ("std::invalid_argument", text))

    def test_threads_set_one_widget_and_the_page_ends_with_its_value(self):
        names, _ = self.page.opened(self.run_ok("caller::widgets::IntSlider s({.max = 1'000'000});"))
        cells = [self.client.execute(f"// thread name=t{n}\nfor (int i = 0; i < 200; ++i) s.set_value(1000 * {n} + i);") for n in (1, 2, 3)]
        for n in range(50):
            self.page.set(names["IntSliderModel"], value=n)
        for cell in cells:
            self.assertEqual(cell.wait().reply["status"], "ok")
        value = self.run_ok("s.value()").result
        last = [m["content"]["data"] for m in self.client.messages if m["msg_type"] == "comm_msg" and "value" in m["content"]["data"]["state"]][-1]
        self.assertEqual(str(last["state"]["value"]), value)


class BeforeSeven(KernelTest):
    """A page with ipywidgets 6, which Debian 12 has."""

    def setUp(self):
        super().setUp()
        self.page = Page(self)
        self.version = uuid.uuid4().hex
        msg_id = self.client.send("shell", "comm_open", {"comm_id": self.version, "target_name": "jupyter.widget.version", "data": {}})
        self.client.idle(msg_id)
        (answer,) = self.client.of(msg_id, "iopub", "comm_msg")
        self.assertEqual(answer["content"]["data"], {"version": "~2.1.4"})
        self.page.send(self.version, {"validated": True, "frontend_version": "2.1.4"})

    def test_it_is_spoken_to_in_its_own_way(self):
        cell = self.run_ok('caller::widgets::IntProgress bar; caller::widgets::Dropdown d({.options = {"a", "b"}}); d')
        states = {}
        for m in self.client.of(cell.id, "iopub", "comm_open"):
            states[m["content"]["data"]["_model_name"]] = m["content"]
        state = states["DropdownModel"]["data"]
        self.assertEqual((state["_model_module"], state["value"], state["_view_name"]), ("jupyter-js-widgets", "a", "DropdownView"))
        self.assertEqual(states["ProgressModel"]["data"]["_view_name"], "ProgressView")
        comm_id = states["DropdownModel"]["comm_id"]
        displays = [m for m in self.client.of(cell.id, "iopub", "comm_msg") if m["content"]["data"]["method"] == "display"]
        self.assertEqual([m["content"]["comm_id"] for m in displays], [comm_id])
        (shown,) = cell.contents("display_data")
        self.assertEqual(shown["data"][VIEW]["model_id"], comm_id)
        msg_id = self.page.send(comm_id, {"method": "backbone", "sync_method": "update", "sync_data": {"value": "b"}})
        self.assertEqual(self.page.sent(msg_id, "echo_update"), [])
        self.assertEqual(self.run_ok("d.value()").result, '"b"')
        state = self.page.sent(self.page.send(comm_id, {"method": "request_state"}))[0]
        self.assertEqual((state["_model_module"], state["value"]), ("jupyter-js-widgets", "b"))
        self.assertTrue(all(parent_id(m) for m in displays))
