"""notebooks/05_embedding.ipynb with the installed package; run by tests/docs/CMakeLists.txt."""

import os
import unittest

import test_notebook


class Embedding(unittest.TestCase):
    maxDiff = None

    def test_a_client_looks_into_a_program_and_changes_it(self):
        os.environ["CMAKE_PREFIX_PATH"] = os.environ["CALLER_PREFIX"]
        notebook = test_notebook.execute(test_notebook.NOTEBOOKS / "05_embedding.ipynb")
        cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
        test_notebook.assert_clean(self, cells)
        expected = {
            "build": "build/shop\n",
            "start": "open\nshop.json\n",
            "look": "price 100, more than 20 customers, sold 0\n",
            "change": "sold at 5, the price is 5\n",
            "wrong": "no member named 'set_prize'\nstill at 5\n",
            "close": "open\nclosed: a client said so\nno connection file any more\n",
            "counter": "4000",
            "end": "true",
        }
        self.assertEqual({name: test_notebook.shown(cells[name]) for name in expected}, expected)
