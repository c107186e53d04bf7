"""notebooks/01_caller.ipynb through the real kernel: every cell's output is what the text says."""

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
