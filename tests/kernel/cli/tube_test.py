"""`caller tube` as a user calls it. Usage: tube_test.py PROGRAM PLUGIN"""

import json
import os
import pathlib
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from environment import bare

PROGRAM = PLUGIN = ""
RUNNERS = ("sync", "async", "thread", "cluster")
TUBES = pathlib.Path(__file__).resolve().parents[2] / "data" / "tubes"


class Tubes(unittest.TestCase):
    def setUp(self):
        self._directory = tempfile.TemporaryDirectory()
        self.addCleanup(self._directory.cleanup)
        self.folder = pathlib.Path(self._directory.name)

    def call(self, *arguments, stdin=None, path=TUBES):
        environment = bare(HOME=self.folder, CALLER_TUBE_PATH=path)
        return subprocess.run(
            [PROGRAM, "tube", *arguments], env=environment, input=stdin, capture_output=True, text=True, timeout=50, check=False
        )

    def results(self, *arguments, **options):
        answer = self.call("run", *arguments, **options)
        self.assertEqual((answer.returncode, answer.stderr), (0, ""))
        return [json.loads(line) for line in answer.stdout.splitlines()]

    def test_every_runner_gives_the_same_results(self):
        for runner in RUNNERS:
            self.assertEqual(self.results("testing-basic", "-n", "4", "--runner", runner), [0, 2, 4, 6])

    def test_a_tube_runs_until_its_source_ends(self):
        self.assertEqual(self.results("testing-short-source"), [0, 1, 2])

    def test_a_file_is_named_by_its_path(self):
        self.assertEqual(self.results(str(TUBES / "basic.yaml"), "-n", "1", path=self.folder), [0])

    def test_inputs_come_from_the_command_line_and_from_standard_input(self):
        arguments = ("testing-inputs", "-i", "start", "7", "-i", "multiply_tube", "13")
        lines = '{"multiply_process": 17}\n\n{"multiply_process": 34}\n'
        self.assertEqual(self.results(*arguments, stdin=lines), [1547, 3536])
        both = '[{"multiply_process": 17}, {"multiply_process": 34}]'
        self.assertEqual(self.results(*arguments, "-if", "json", stdin=both), [1547, 3536])
        self.assertEqual(self.results(*arguments, "-i", "multiply_process", "1", "-n", "2"), [91, 104])

    def test_results_are_one_list_on_demand(self):
        answer = self.call("run", "testing-basic", "-n", "3", "-of", "json")
        self.assertEqual(json.loads(answer.stdout), [0, 2, 4])

    def test_wrong_options_are_named_with_what_is_expected(self):
        for wrong, expected in (
            (("-n", "-3"), '-n: expected a whole number of at least 0, found "-3"'),
            (("--runner", "dance"), '--runner: expected sync, async, thread or cluster, found "dance"'),
            (("--output-format", "xml"), '--output-format: expected json or jsonl, found "xml"'),
            (("another",), '`caller tube run` takes no "another"'),
        ):  # fmt: skip
            answer = self.call("run", "testing-basic", *wrong)
            self.assertEqual((answer.returncode, answer.stdout, answer.stderr), (2, "", f"caller: {expected}; `caller tube run --help` explains it\n"))

    def test_a_drawing_that_cannot_be_written_is_an_error(self):
        for name in ("graph.dot", "graph.svg"):
            answer = self.call("plot", "testing-basic", "-o", str(self.folder / "nowhere" / name))
            self.assertEqual((answer.returncode, answer.stdout), (1, ""))
            self.assertIn(f"there is no folder {self.folder}/nowhere for ", answer.stderr)

    def test_wrong_standard_input_is_named_with_its_line(self):
        answer = self.call("run", "testing-inputs", "-i", "start", "0", "-i", "multiply_tube", "1", stdin='{"multiply_process": 1}\n{oops\n')
        self.assertEqual(answer.returncode, 1)
        self.assertEqual(answer.stdout, "0\n")
        self.assertIn("standard input, line 2", answer.stderr)

    def test_wrong_inputs_on_standard_input_are_named_with_their_place(self):
        arguments = ("run", "testing-inputs", "-i", "start", "0", "-i", "multiply_tube", "1")
        for text, error in (
            ('{"multiply_process": 1}\n[1, 2]\n', "standard input, line 2: expected an object of inputs, found [1, 2]"),
            ('{"multiply_process": "x"}\n', 'standard input, line 1: the input "multiply_process" takes'),
            ('\n{"multiply_proces": 1}\n', "standard input, line 2: process() of the tube"),
            ('{"multiply_process": ' + 300 * "[" + 300 * "]" + "}\n", "standard input, line 1: nested too deeply"),
        ):
            answer = self.call(*arguments, stdin=text)
            self.assertEqual(answer.returncode, 1, answer.stderr)
            self.assertIn(error, answer.stderr)
        answer = self.call(*arguments, "-if", "json", stdin='[{"multiply_process": 1}, 3]')
        self.assertIn("standard input, element 2: expected an object of inputs, found 3", answer.stderr)

    def test_a_mistake_is_shown_where_it_stands(self):
        wrong = self.folder / "wrong.yaml"
        wrong.write_text("noob_id: wrong\nnodes:\n  a: {type: noob.testing.count_sauce}\n")
        for command in ("run", "check", "plot"):
            answer = self.call(command, str(wrong))
            self.assertEqual(answer.returncode, 1, command)
            self.assertIn(f"{wrong}:3:13: nodes.a.type: unknown type", answer.stderr)
            self.assertIn('did you mean "noob.testing.count_source"', answer.stderr)
            self.assertIn("  a: {type: noob.testing.count_sauce}\n" + " " * 14 + "^", answer.stderr)

    def test_progress_is_drawn_on_a_terminal_and_a_line_at_the_end_elsewhere(self):
        answer = self.call("run", "testing-basic", "-n", "3", "--progress")
        self.assertEqual((answer.returncode, answer.stdout.count("\n")), (0, 3))
        self.assertRegex(answer.stderr, r"\A3 of 3 results, 3 epochs, \d+\.\d s, \d+ epochs/s\n\Z")
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as screen:
            environment = bare(CALLER_TUBE_PATH=TUBES)
            answer = subprocess.run(
                [PROGRAM, "tube", "run", "testing-basic", "-n", "3", "--progress"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=theirs, timeout=50, check=True,
            )  # fmt: skip
            shown = screen.read(10_000).decode()
            os.close(theirs)
        self.assertEqual(answer.stdout.count(b"\n"), 3)
        self.assertTrue(shown.startswith("\r1 of 3 results"), shown)
        self.assertIn("\r3 of 3 results, 3 epochs", shown)

    def test_a_node_that_throws_ends_the_run_with_its_name(self):
        answer = self.call("run", "testing-error")
        self.assertEqual(answer.returncode, 1)
        self.assertIn('the node "b"', answer.stderr)
        self.assertIn("This node just emits errors", answer.stderr)

    def test_unknown_tubes_and_missing_inputs_say_so(self):
        answer = self.call("run", "testing-basix")
        self.assertEqual(answer.returncode, 1)
        self.assertIn('did you mean "testing-basic"', answer.stderr)
        answer = self.call("run", "testing-inputs")
        self.assertEqual(answer.returncode, 1)
        self.assertIn('needs the input "start" (int)', answer.stderr)
        self.assertNotEqual(self.call("run").returncode, 0)
        self.assertNotEqual(self.call("run", "testing-basic", "--runner", "fast").returncode, 0)

    def test_check_describes_the_built_graph(self):
        answer = self.call("check", "testing-map-gather", "--json")
        graph = json.loads(answer.stdout)
        nodes = {node["id"]: node for node in graph["nodes"]}
        self.assertEqual(nodes["loud"]["below_maps"], ["letters"])
        self.assertEqual(nodes["joined"]["below_maps"], [])
        self.assertIn({"from": "letters.n", "to": "all", "slot": "n", "required": True}, graph["edges"])
        self.assertIn("6 nodes", self.call("check", "testing-map-gather").stdout)
        self.assertEqual(self.call("check", "testing-inputs").returncode, 0)

    def test_plot_writes_the_graph(self):
        self.assertIn('"a" -> "b"', self.call("plot", "testing-basic").stdout)
        target = self.folder / "graph.svg"
        answer = self.call("plot", "testing-basic", "-o", str(target))
        if shutil.which("dot"):
            self.assertEqual(answer.returncode, 0, answer.stderr)
            self.assertIn("<svg", target.read_text())
        else:
            self.assertEqual(answer.returncode, 1)
            self.assertIn("install the package graphviz", answer.stderr)
        self.assertIn("cannot draw", self.call("plot", "testing-basic", "-o", str(self.folder / "graph.bmp")).stderr)

    def test_control_c_ends_all_processes_of_a_cluster(self):
        tube = self.folder / "endless.yaml"
        tube.write_text("noob_id: endless\nnodes:\n  a: {type: noob.testing.letter_source}\n  out: {type: return, depends: a.letter}\n")
        environment = bare(TMPDIR=self.folder)
        with subprocess.Popen(
            [PROGRAM, "tube", "run", str(tube), "--runner", "cluster"], env=environment, stdout=subprocess.PIPE, start_new_session=True
        ) as run:
            self.assertEqual(run.stdout.readline(), b'"a"\n')
            self.assertEqual(len(list(self.folder.glob("caller-tube-*"))), 1)
            os.killpg(run.pid, signal.SIGINT)
            # The pipe ends when the last process that could write to it has gone.
            run.stdout.read()
            self.assertEqual(run.wait(10), -signal.SIGINT)
        self.assertEqual(list(self.folder.glob("caller-tube-*")), [])

    def test_types_lists_what_can_be_named(self):
        self.assertIn("noob.testing.multiply(left, right?) -> value\n", self.call("types").stdout)
        listed = {entry["type"]: entry for entry in json.loads(self.call("types", "--json").stdout)}
        self.assertEqual(listed["noob.testing.word_counts"]["signals"], ["word", "counts"])

    def test_a_plugin_adds_types(self):
        tube = self.folder / "plugged.yaml"
        tube.write_text("tube_id: plugged\nnodes:\n  a: {type: plugin.squares}\n  out: {type: return, depends: a.value}\n")
        for runner in RUNNERS:
            self.assertEqual(self.results(str(tube), "-n", "4", "--plugin", PLUGIN, "--runner", runner), [0, 1, 4, 9])
        answer = self.call("run", str(tube))
        self.assertIn('unknown type "plugin.squares"', answer.stderr)
        answer = self.call("run", str(tube), "--plugin", str(self.folder / "none.so"))
        self.assertEqual(answer.returncode, 1)
        self.assertIn("cannot load the plugin", answer.stderr)
        self.assertIn("there is no such file; a plugin is named by the path of its shared object", answer.stderr)
        self.assertEqual(len(answer.stderr.splitlines()), 1)


if __name__ == "__main__":
    PLUGIN = sys.argv.pop()
    PROGRAM = sys.argv.pop()
    unittest.main(verbosity=2)
