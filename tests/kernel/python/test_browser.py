"""The classic Notebook in a headless browser with the real kernel: run all, interrupt, widgets of the page."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import unittest

import support  # moves Jupyter's directories, so it comes first
from webdriver import Browser

SOURCE = pathlib.Path(os.environ["CALLER_SOURCE"])


def start_server(directory):
    """A Jupyter server on loopback for the directory: (process, address)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = open(support.HOME / "server.log", "wb")  # pylint: disable=consider-using-with
    process = subprocess.Popen(  # pylint: disable=consider-using-with
        [sys.executable, "-m", "notebook", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--port-retries=0",
         "--NotebookApp.token=", "--NotebookApp.password=", f"--notebook-dir={directory}"],
        stdout=log, stderr=log, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"http://127.0.0.1:{port}"
        time.sleep(0.1)
    process.kill()
    raise AssertionError((support.HOME / "server.log").read_text(encoding="utf-8"))


class ClassicNotebook(unittest.TestCase):
    READY = "window.Jupyter && Jupyter.notebook && Jupyter.notebook.kernel && Jupyter.notebook.kernel.is_connected() && Jupyter.notebook._fully_loaded"
    IDLE = "!Jupyter.notebook.kernel_busy && !document.querySelector('.cell.running') && Jupyter.notebook.get_cells().filter(c => c.cell_type === 'code').every(c => c.input_prompt_number !== '*')"

    def setUp(self):
        support.install_kernelspec()
        directory = support.HOME / "notebooks"
        directory.mkdir()
        shutil.copy(SOURCE / "notebooks/01_caller.ipynb", directory)
        self.server, address = start_server(directory)
        self.addCleanup(self.stop_server)
        self.browser = Browser()
        self.addCleanup(self.browser.close)
        self.browser.open(f"{address}/notebooks/01_caller.ipynb")
        self.browser.wait(self.READY)

    def stop_server(self):
        self.server.terminate()
        try:
            self.server.wait(20)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait(10)

    def run_cell(self, code):
        """Appends a cell and runs it without waiting; returns its index."""
        return self.browser.script(
            "const n = Jupyter.notebook; const c = n.insert_cell_at_bottom('code'); c.set_text(arguments[0]); c.execute();"
            "return n.find_cell_index(c);",
            code,
        )

    def output(self, index):
        return self.browser.script("return Jupyter.notebook.get_cell(arguments[0]).output_area.element[0].innerText;", index)

    def wait_output(self, index, text, timeout=60):
        self.browser.wait(f"Jupyter.notebook.get_cell({index}).output_area.element[0].innerText.includes({text!r})", timeout)

    def test_run_all_and_look(self):
        self.browser.script("Jupyter.notebook.execute_all_cells();")
        self.browser.wait("document.body.innerText.includes('mode 3: PendingCancelled')", 120)
        self.browser.wait(self.IDLE)
        self.assertEqual(self.browser.script("return document.querySelectorAll('.output_error, .output_stderr').length;"), 0)
        picture = pathlib.Path(os.environ.get("CALLER_SCREENSHOT", support.HOME / "notebook.png"))
        self.browser.screenshot(picture)
        self.assertGreater(picture.stat().st_size, 10_000)

    def test_interrupt_button(self):
        index = self.run_cell('std::cout << "spin" << "ning" << std::flush; for (;;) {}')
        self.wait_output(index, "spinning")
        self.browser.script("document.querySelector(\"button[data-jupyter-action='jupyter-notebook:interrupt-kernel']\").click();")
        self.wait_output(index, "nterrupt", 5)
        after = self.run_cell("20 + 22")
        self.wait_output(after, "42")

    def test_html_and_input(self):
        index = self.run_cell('caller::html{"<i id=\'made-by-a-cell\'>slanted</i>"}')
        self.wait_output(index, "slanted")
        self.assertEqual(self.browser.script("return document.querySelectorAll('#made-by-a-cell').length;"), 1)
        index = self.run_cell('caller::input("your name")')
        self.browser.wait("document.querySelector('.raw_input')")
        self.browser.script(
            "const i = document.querySelector('.raw_input'); i.value = 'Ada';"
            "const e = jQuery.Event('keydown'); e.which = 13; e.keyCode = 13; jQuery(i).trigger(e);"
        )
        self.wait_output(index, "Ada")

    def test_widgets_are_used_from_both_sides_and_survive_a_reload(self):
        index = self.run_cell(
            "using namespace caller::widgets;\n"
            'IntSlider slider({.value = 5, .max = 50, .description = "n"}); Button button({.description = "press", .button_style = "info"});\n'
            'Text text({.description = "name"}); Checkbox check({.description = "yes"}); IntProgress bar({.value = 30, .bar_style = "success"});\n'
            'Dropdown choice({.options = {"red", "green", "blue"}, .description = "colour"}); Label label("waiting"); Output out;\n'
            'button.on_click([] { std::cout << "pressed in C++\\n"; label.set_value("clicked"); });\n'
            'slider.on_change([](long long n) { bar.set_value(n * 2); auto here = out.capture(); std::cout << "moved to " << n << "\\n"; });\n'
            "VBox({HBox({slider, bar}), HBox({text, check, choice}), HBox({button, label}), out})"
        )
        self.browser.wait("document.querySelector('.ui-slider-handle') && document.querySelector('.widget-button')")

        # The page's changes reach C++.
        self.browser.type(".ui-slider-handle", "\ue014\ue014")  # the right arrow, twice
        self.browser.wait("document.querySelector('.widget-readout').innerText === '7'")
        self.browser.type(".widget-text input", "Ada")
        self.browser.click(".widget-checkbox input")
        self.browser.script(
            "const s = document.querySelector('.widget-select select'); s.value = 'blue'; s.dispatchEvent(new Event('change', {bubbles: true}));"
        )
        self.browser.wait("document.body.innerText.includes('moved to 7')")
        after = self.run_cell("std::make_tuple(slider.value(), text.value(), check.value(), choice.value(), bar.value())")
        self.wait_output(after, '(7, "Ada", true, "blue", 14)')
        self.assertEqual(self.output(after).count("moved to"), 0)  # that is in the place for output

        # C++'s changes reach the page.
        self.run_cell('slider.set_value(42); choice.set_value("green"); check.set_value(false); text.set_value("Grace");')
        self.browser.wait("document.querySelector('.widget-readout').innerText === '42'")
        self.browser.wait("document.querySelector('.widget-select select').value === 'green'")
        self.browser.wait("!document.querySelector('.widget-checkbox input').checked && document.querySelector('.widget-text input').value === 'Grace'")

        # A click runs the callback, whose output is the cell's.
        self.browser.click(".widget-button")
        self.wait_output(index, "pressed in C++")
        self.browser.wait("document.querySelector('.widget-label').innerText.includes('clicked') || document.body.innerText.includes('clicked')")
        picture = pathlib.Path(os.environ.get("CALLER_SCREENSHOT", support.HOME / "widgets.png"))
        self.browser.script("document.querySelector('.ui-slider-handle').scrollIntoView({block: 'center'});")
        self.browser.screenshot(picture)
        self.assertGreater(picture.stat().st_size, 10_000)
        self.assertEqual(self.browser.script("return document.querySelectorAll('.output_error, .output_stderr').length;"), 0)

        # A page that is loaded again finds its widgets, and they still work.
        self.browser.script("Jupyter.notebook.save_notebook();")
        self.browser.wait("!Jupyter.notebook.dirty")
        self.browser.open(self.browser.script("return window.location.href;"))
        self.browser.wait(self.READY)
        self.browser.wait("document.querySelector('.widget-readout') && document.querySelector('.widget-readout').innerText === '42'")
        self.browser.type(".ui-slider-handle", "\ue012")  # the left arrow
        after = self.run_cell("slider.value()")
        self.wait_output(after, "41")
