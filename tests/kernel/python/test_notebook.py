"""The notebooks through the real kernel: every cell's output is what the text says."""

import os
import pathlib
import re
import subprocess
import sys
import unittest

import support  # moves Jupyter's directories, so it comes first
import nbformat
from nbclient import NotebookClient

NOTEBOOKS = pathlib.Path(os.environ["CALLER_SOURCE"]) / "notebooks"


def execute(path):
    support.install_kernelspec()
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=60, kernel_name="caller", resources={"metadata": {"path": str(support.HOME)}}).execute()
    return notebook


def shown(cell):
    """What a reader sees below the cell."""
    parts = []
    for output in cell.outputs:
        parts.append(output.text if output.output_type == "stream" else output.data["text/plain"])
    return "".join(parts)


def assert_clean(test, cells):
    """Nobody has failed or complained."""
    for name, cell in cells.items():
        for output in cell.outputs:
            test.assertNotEqual(output.output_type, "error", name)
            test.assertNotEqual(output.get("name"), "stderr", output)


class Notebook(unittest.TestCase):
    maxDiff = None

    def cell(self, notebook, part):
        """The output of the first code cell whose source has this part."""
        return shown(next(c for c in notebook.cells if c.cell_type == "code" and part in c.source))

    def test_outputs(self):
        notebook = execute(NOTEBOOKS / "01_caller.ipynb")
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                self.assertNotEqual(output.output_type, "error")
                self.assertNotEqual(output.get("name"), "stderr", output)
        expected = {
            "Caller nobody;": "no Caller there\n",
            "Caller(caller::main_thread)": "current_thread: true\nmain_thread:    true\n",
            'Caller caller1(': "hello world! from My caller1\nstopped\n",
            'Caller named(': "with options on asio\n",
            'Caller worker = here.get(': "is a child:    true\nits parent:    true\nthe same name: true\n",
            "Caller child1 =": "children: 2\nstopped\nstopped\nstopped\n",
            "auto two =": "2\n" * 5,
            "Coro<int> add(": "2\n" * 6,
            "long_sleep": "from the worker\ncancelled: true\n",
            "count_down": "".join(f"call {n}, left {9 - n}\n" for n in range(10)) + "a lane:   true\nno lane:  true\n",
            "call_direct": "the event was set\n",
            "std::vector<caller::Pending<void>> naps": "done 2, pending 1\ndone 3, pending 0\n",
            "with_pending_group([]": "inside: 4 pending\noutside: 0 pending\n",
            "cancel_one": "mode 0: quiet\nmode 1: PendingCancelled\nmode 2: quiet\nmode 3: PendingCancelled\n",
            "// thread name=": "this cell ran on background\n",
        }
        for part, text in expected.items():
            with self.subTest(cell=part):
                self.assertEqual(self.cell(notebook, part), text)
        stream = self.cell(notebook, "as_completed(")
        squares = [n * n for n in range(1, 13)]
        self.assertEqual(sorted(map(int, re.findall(r"finished: (\d+)", stream))), squares)
        self.assertTrue(stream.endswith(str(sum(squares))))
        self.assertIn("Shell", self.cell(notebook, "Caller here;"))

    def test_the_table_of_callers(self):
        notebook = execute(NOTEBOOKS / "01_caller.ipynb")
        tables = [shown(c) for c in notebook.cells if c.cell_type == "code" and c.source == "%callers"]
        self.assertEqual(len(tables), 2)
        for heading in ("Name", "Running", "Protected", "Thread", "Caller"):
            self.assertIn(heading, tables[0])
        rows = {line.split()[0]: line for line in tables[0].splitlines() if line.strip()}
        self.assertIn("\u2190 current", rows["Shell"])
        self.assertIn("Control", rows)
        self.assertNotIn("\u2190 current", rows["Control"])
        self.assertNotIn("background", tables[0])
        self.assertIn("background", tables[1])

    def test_nbconvert_executes_it(self):
        support.install_kernelspec()
        subprocess.run(
            [sys.executable, "-m", "nbconvert", "--to", "html", "--execute", "--output-dir", str(support.HOME), "--output", "page",
             str(NOTEBOOKS / "01_caller.ipynb")],
            check=True, capture_output=True, timeout=200, cwd=support.HOME,
        )  # fmt: skip
        page = (support.HOME / "page.html").read_text(encoding="utf-8")
        self.assertIn("hello world! from My caller1", page)
        self.assertIn("mode 3: PendingCancelled", page)

    def test_the_stored_notebook_has_no_outputs(self):
        for path in NOTEBOOKS.glob("*.ipynb"):
            notebook = nbformat.read(path, as_version=4)
            nbformat.validate(notebook)
            self.assertEqual(notebook.metadata.kernelspec.name, "caller")
            for cell in notebook.cells:
                self.assertEqual(cell.get("outputs", []), [])
                self.assertIsNone(cell.get("execution_count"))

    def test_the_run_script_prints_cells_and_writes_a_page(self):
        support.install_kernelspec()
        page = support.HOME / "out" / "page.html"
        result = subprocess.run(
            [sys.executable, str(NOTEBOOKS.parent / "cmake/run_notebook.py"), str(NOTEBOOKS / "01_caller.ipynb"), str(page)],
            check=False, capture_output=True, text=True, timeout=200, cwd=support.HOME,
        )  # fmt: skip
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("hello world! from My caller1", result.stdout)
        self.assertIn("auto two = [] { return 1 + 1; };", result.stdout)
        self.assertIn("<html", page.read_text(encoding="utf-8"))


class Cells(unittest.TestCase):
    """notebooks/02_cells.ipynb"""

    maxDiff = None

    def test_what_cells_show(self):
        notebook = execute(NOTEBOOKS / "02_cells.ipynb")
        cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
        stopped = cells.pop("interrupt").outputs
        self.assertEqual([output.output_type for output in stopped], ["stream", "error"])
        self.assertEqual((stopped[0].text, stopped[1].ename), ("cleaned up\n", "Interrupted"))
        crash = cells.pop("crash").outputs
        self.assertEqual([output.output_type for output in crash], ["error"])
        self.assertEqual(crash[0].ename, "SegmentationFault")
        self.assertRegex(crash[0].evalue, r"null pointer.*\(Cell \[4\], line 3")
        assert_clean(self, cells)
        expected = {
            "mixed": "42",
            "after-crash": '"peak"',
            "after-interrupt": "true",
            "first-point": "5.0",
            "second-point": "7.0",
            "update": "",
            "own-look": "a disc of radius 40.000000",
            "stars": "   name    magnitude  distance\n─  ──────  ─────────  ────────\n0  Sirius      -1.46         9\n"
            "1  Vega         0.03        25\n2  Deneb        1.25      2615\n3 rows × 3 columns",
            "columns": "star    parsecs\n──────  ───────\nSirius  2.75942\nVega    7.66504\nDeneb   801.764\n3 rows × 2 columns",
            "slider": "HBox(2 children)",
            "set": '"49"',
        }
        for name, text in expected.items():
            with self.subTest(cell=name):
                self.assertEqual(shown(cells[name]), text)
        # What was shown under a name has been replaced where it stood.
        self.assertIn("done", cells["named"].outputs[0].data["text/html"])
        self.assertIn("<table", cells["stars"].outputs[0].data["text/html"])
        for name, part in {"waves": ">sin t<", "histogram": ">Normal distribution<", "bars": ">pears<"}.items():
            self.assertIn(part, cells[name].outputs[0].data["image/svg+xml"])
            self.assertIn("values", shown(cells[name]))
        self.assertIn("2000/2000", cells["bar"].outputs[0].data["text/plain"])
        self.assertEqual(cells["bar"].outputs[1].data["text/plain"], "true")
        view = cells["slider"].outputs[0].data["application/vnd.jupyter.widget-view+json"]
        states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
        self.assertEqual(states[view["model_id"]]["model_name"], "HBoxModel")
        values = {s["model_name"]: s["state"].get("value") for s in states.values()}
        self.assertEqual((values["IntSliderModel"], values["LabelModel"]), (7, "49"))


class Tubes(unittest.TestCase):
    """notebooks/03_tubes.ipynb"""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        notebook = execute(NOTEBOOKS / "03_tubes.ipynb")
        cls.cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}

    def texts(self, name):
        return [o.data["text/plain"] for o in self.cells[name].outputs if o.output_type in ("display_data", "execute_result")]

    def test_the_stream_becomes_a_report(self):
        for name, cell in self.cells.items():
            for output in cell.outputs:
                self.assertNotEqual(output.get("name"), "stderr", output)
                if name not in ("typo", "picky-run"):
                    self.assertNotEqual(output.output_type, "error", name)
        self.assertEqual(self.texts("data"), ["true"])
        graph, progress, earlier, last = self.texts("sensors")
        self.assertEqual(graph, "<graph of the tube sensors: 9 nodes, 10 edges>")
        self.assertIn("<svg", self.cells["sensors"].outputs[0].data["image/svg+xml"])
        self.assertRegex(progress, r"^sensors, sync: done, a source has ended: 480 epochs, [0-9\u2009]+ events ")
        self.assertIn("read 481 good 480 window 475 split 7 channel 7 look 21 all 21 report 7", progress)
        self.assertIn("<table", self.cells["sensors"].outputs[1].data["text/html"])
        windows = earlier.splitlines() + [last]
        self.assertEqual(len(windows), 7)
        self.assertIn('"window 1: pressure varies most"', windows[0])
        self.assertIn('"window 7: vibration varies most"', windows[6])
        self.assertIn("[[20.6,0.41],[1012.73,0.83],", windows[0])
        self.assertIn(">vibration<", self.cells["trend"].outputs[0].data["image/svg+xml"])

    def test_every_runner_reports_the_same_and_a_new_function_another_thing(self):
        reports = [text.partition('"report":')[2].partition(",")[0] for text in "\n".join(self.texts("sensors")[2:]).splitlines()]
        for name in ("async", "thread"):
            earlier, last = self.texts(name)[1:]
            self.assertEqual([line.partition(": ")[2] for line in earlier.splitlines()] + [last], reports, name)
        strict = self.texts("strict-run")
        self.assertLess(len("\n".join(strict[1:]).splitlines()), 7)
        self.assertIn("read 481 good 480", strict[0])

    def test_mistakes_are_shown_with_their_place(self):
        (typo,) = self.cells["typo"].outputs
        self.assertRegex(support.plain(typo.traceback[0]), r"^Cell \[[0-9]+\], line 8, column 22: error: .*did you mean \"index\"\?")
        picky = self.cells["picky-run"].outputs[-1]
        self.assertIn('the node "check" (picky)', picky.evalue)
        self.assertIn("epoch 3 with n=3: three is too much", picky.evalue)
        self.assertRegex(support.plain(picky.traceback), r"Cell \[[0-9]+\], line 2, in picky")
        self.assertEqual(self.texts("end"), ["9"])

    def test_the_page_of_the_run_script_has_the_pictures(self):
        page = support.HOME / "tubes.html"
        subprocess.run(
            [sys.executable, str(NOTEBOOKS.parent / "cmake/run_notebook.py"), str(NOTEBOOKS / "03_tubes.ipynb"), str(page)],
            check=True, capture_output=True, timeout=200, cwd=support.HOME,
        )  # fmt: skip
        text = page.read_text(encoding="utf-8")
        self.assertIn("<polygon", text)
        self.assertIn(">standard deviation<", text)


class Tasks(unittest.TestCase):
    """notebooks/04_tasks.ipynb"""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        notebook = execute(NOTEBOOKS / "04_tasks.ipynb")
        cls.cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}

    def output(self, name):
        return shown(self.cells[name])

    def test_the_night_is_summarised(self):
        for name, cell in self.cells.items():
            for output in cell.outputs:
                self.assertNotEqual(output.get("name"), "stderr", output)
                if name != "failed":
                    self.assertNotEqual(output.output_type, "error", name)
        self.assertEqual(
            self.output("call"), "station-0: 2000 samples, at most 19\nREGISTERED\nPENDING\nRUNNING\nSUCCESS\n"
        )
        self.assertEqual(self.output("data"), "12")
        table = self.output("parallel")
        self.assertEqual(len(re.findall(r"station-\d+ +2000", table)), 11, table)
        self.assertNotIn("station-7 ", table)
        self.assertRegex(table, r"station-11 +2000  26\.1173   30\.994\n")
        self.assertEqual(self.output("nested"), "11 stations, 1 damaged, at most 30.994\n")
        self.assertEqual(self.output("concurrency"), "8 calibrations, at most 1 of a station at once\n")
        store = self.output("store")
        self.assertRegex(store, r"\ASQLite\nstatus +invocations\n")
        self.assertRegex(store, r"\nSUCCESS +50\nFAILED +3\n")
        self.assertEqual(self.cells["magic"].outputs[-1].data["text/plain"], "8.9954")
        self.assertRegex(self.output("worker"), r'^"summarise@[0-9a-f]{12}"$')

    def test_failures_and_retries_are_told(self):
        (failed,) = [o for o in self.cells["failed"].outputs if o.output_type == "error"]
        self.assertEqual((failed.ename, failed.evalue), ("Damaged", 'station-7, line 1201: "1200,"'))
        self.assertEqual(self.output("failed-status"), '"FAILED"')
        self.assertEqual(self.output("retry"), "archive/station-7.csv after 2 retries\n")

    def test_the_family_is_drawn(self):
        (tree,) = self.cells["tree"].outputs
        svg = tree.data["image/svg+xml"]
        self.assertEqual(svg.count("<circle"), 13)
        self.assertEqual(svg.count(">summarise<"), 12)
        lines = tree.data["text/plain"].splitlines()
        self.assertTrue(lines[0].startswith("report: SUCCESS, "), lines)
        self.assertEqual(sum("summarise: FAILED" in line for line in lines), 1)
        progress = [o for o in self.cells["magic"].outputs if o.output_type == "display_data"][0]
        self.assertIn("compare of measurements, thread: SUCCESS", progress.data["text/plain"])
        self.assertIn("17 tasks below it: 1 FAILED 16 SUCCESS", progress.data["text/plain"])
        self.assertIn("<circle", progress.data["text/html"])
