"""What the tests of %%tube share."""

import re

from magic_support import MagicTest
from support import plain

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
